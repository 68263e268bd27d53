"""Tells Grantlog of calls, in batches, each until it is acknowledged."""

import json
import queue
import threading
import time

import requests

# Calls that wait for their report; beyond it calls are refused, for they would be on no record.
MAX_WAITING_CALLS = 10_000
# Calls in one report.
MAX_BATCH_CALLS = 500
# How long the first of a batch waits for others.
BATCH_WITHIN_SECONDS = 0.5
# Pauses between attempts: the first, and the longest.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30
PATIENCE_SECONDS = 10


class CallReports:
    """A queue and a thread. Each call keeps its id, so that one that was acknowledged already is no second event."""

    def __init__(self, issuer, client_id, client_secret):
        self.issuer = issuer
        self.credentials = (client_id, client_secret)
        self.session = requests.Session()
        self.token = None
        self.waiting = queue.Queue(MAX_WAITING_CALLS)
        # Places are taken before a call is let in, and given back when it is acknowledged.
        self.places = threading.BoundedSemaphore(MAX_WAITING_CALLS)
        self.thread = threading.Thread(target=self._run, name="call-reports")
        self.thread.start()

    def take_place(self):
        """Whether there is room for one more call."""
        return self.places.acquire(blocking=False)

    def report(self, call):
        """Whoever has a place hands its call over."""
        self.waiting.put_nowait(call)

    def end(self):
        """Waits until everything is acknowledged. No call may come after this."""
        self.waiting.put(None)
        self.thread.join()

    def _run(self):
        while (call := self.waiting.get()) is not None:
            batch = [call]
            until = time.monotonic() + BATCH_WITHIN_SECONDS
            is_last = False
            while len(batch) < MAX_BATCH_CALLS and not is_last:
                try:
                    call = self.waiting.get(timeout=max(0, until - time.monotonic()))
                except queue.Empty:
                    break
                is_last = call is None
                batch += [] if is_last else [call]
            self._deliver(batch)
            if is_last:
                return

    def _deliver(self, batch):
        pause, most = FIRST_PAUSE_SECONDS, len(batch)
        while batch:
            part = batch[:most]
            try:
                answer = self._send(part)
            except requests.RequestException as error:
                problem = str(error)
            else:
                if answer.status_code == 200:
                    for rejected in answer.json().get("rejected", []):
                        print(f"a call was not recorded: {rejected}", flush=True)
                    batch = self._done_with(batch, len(part))
                    pause, most = FIRST_PAUSE_SECONDS, MAX_BATCH_CALLS
                    continue
                problem = f"{answer.status_code} {answer.text}"
                if answer.status_code in (400, 413):
                    # None of them is taken: halves, down to the one that is refused, which would keep all others
                    # waiting.
                    if len(part) == 1:
                        print(f"a call cannot be reported, {problem}: {json.dumps(part[0])}", flush=True)
                        batch, most = self._done_with(batch, 1), MAX_BATCH_CALLS
                    else:
                        most = len(part) // 2
                    continue
            print(f"calls could not be reported yet: {problem}", flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _done_with(self, batch, count):
        for _ in range(count):
            self.places.release()
        return batch[count:]

    def _send(self, calls):
        if self.token is None:
            form = {"grant_type": "client_credentials", "scope": "calls:report", "audience": self.issuer}
            url = f"{self.issuer}/connect/token"
            granted = self.session.post(url, data=form, auth=self.credentials, timeout=PATIENCE_SECONDS)
            granted.raise_for_status()
            self.token = granted.json()["access_token"]
        answer = self.session.post(
            f"{self.issuer}/audit/api-calls",
            data="".join(json.dumps(call) + "\n" for call in calls).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/x-ndjson"},
            timeout=PATIENCE_SECONDS,
        )
        if answer.status_code == 401:
            # It has expired, or was revoked.
            self.token = None
        return answer
