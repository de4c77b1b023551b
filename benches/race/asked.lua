-- What wrk asks for, by the variables RACE_ASKED (one, many, ranges), RACE_COUNT and RACE_BYTES; prints its figures as a line of
-- JSON.
local asked, count, bytes = os.getenv("RACE_ASKED"), tonumber(os.getenv("RACE_COUNT")), tonumber(os.getenv("RACE_BYTES"))
local requests, next = {}, 0

if asked ~= "one" then
  function init()
    for number = 0, count - 1 do
      if asked == "many" then
        requests[number] = wrk.format("GET", string.format("/race/p/%04d.zip", number))
      else
        local range = string.format("bytes=%d-%d", number * bytes, (number + 1) * bytes - 1)
        requests[number] = wrk.format("GET", wrk.path, { Host = wrk.headers["Host"], Range = range })
      end
    end
  end

  function request()
    next = (next + 1) % count
    return requests[next]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"bytes":%d,"secs":%.6f,"errors":%d,"p50":%.6f,"p99":%.6f}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
