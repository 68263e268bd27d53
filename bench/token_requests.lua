-- Token requests for wrk, for bench/0 or for all of bench/0 ... bench/<n-1> in an order that jumps about.

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
if os.getenv("BENCH_CLOSE") ~= "" then
  wrk.headers["Connection"] = "close"
end

local applications = tonumber(os.getenv("BENCH_APPLICATIONS"))
local form = os.getenv("BENCH_FORM")

local function form_of(number)
  return (form:gsub("%%25d", tostring(number)))
end

wrk.body = form_of(0)

if applications > 1 then
  local prepared = {}
  local next = 0
  function init(args)
    for number = 0, applications - 1 do
      prepared[number] = wrk.format(nil, nil, nil, form_of(number))
    end
  end
  -- A step without a common divisor with the number of applications visits all of them.
  local step = 7919
  function request()
    next = (next + step) % applications
    return prepared[next]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'report: {"requests":%d,"seconds":%.6f,"requests_per_second":%.1f,"errors":%d,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f}\n',
    summary.requests, summary.duration / 1e6, summary.requests / (summary.duration / 1e6),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
