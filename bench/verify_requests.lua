-- Questions of a proxy for wrk: may this call pass? With each of the tokens in a file in turn, a line each.

local prepared = {}
local next = 0

function init(args)
  for token in io.lines(os.getenv("BENCH_TOKENS")) do
    prepared[#prepared + 1] = wrk.format("GET", nil, {
      ["Authorization"] = "Bearer " .. token,
      ["User-Agent"] = "orders-worker/1.0",
      ["X-Forwarded-For"] = "192.0.2.7",
      ["X-Original-Method"] = "GET",
      ["X-Original-URI"] = "/api/domain/odata/Crm_Sales_Customers?$top=10",
    })
  end
end

function request()
  next = next % #prepared + 1
  return prepared[next]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'report: {"requests":%d,"seconds":%.6f,"requests_per_second":%.1f,"errors":%d,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f}\n',
    summary.requests, summary.duration / 1e6, summary.requests / (summary.duration / 1e6),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
