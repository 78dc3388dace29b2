-- Requests of a file in turn, a line each: METHOD<TAB>target<TAB>body<TAB>Name: value<TAB>…
local requests, turn = {}, 0

local function parse(line)
  local fields, headers = {}, {}
  for field in (line .. "\t"):gmatch("([^\t]*)\t") do fields[#fields + 1] = field end
  for place = 4, #fields do
    local name, value = fields[place]:match("^(.-): (.*)$")
    headers[name] = value
  end
  local body = fields[3] ~= "" and fields[3] or nil
  return wrk.format(fields[1], fields[2], headers, body)
end

function init(arguments)
  for line in io.lines(arguments[1]) do requests[#requests + 1] = parse(line) end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, failed, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
