-- wrk's own report is for people; this line is for the program that started it.
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nsummary {"requests": %d, "microseconds": %d, "failed": %d, "broken": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
