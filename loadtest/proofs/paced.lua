-- wrk as an open loop: a request is due every 1/rate seconds, and whichever connection is free sends it.
-- wrk -t1 -s paced.lua URL -- RATE BODIES OUT     BODIES: one a line; OUT: a line an answer: sent (s), took (ms), status, whole

local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int, moment *);")
local moment = ffi.new("moment")

local function now()
  ffi.C.clock_gettime(1, moment) -- CLOCK_MONOTONIC
  return tonumber(moment.s) + tonumber(moment.ns) / 1e9
end

local bodies, out, gap, due, sent = {}, nil, 0, 0, 0

function init(args)
  gap, due = 1 / tonumber(args[1]), now()
  for body in io.lines(args[2]) do
    bodies[#bodies + 1] = body
  end
  out = io.open(args[3], "w")
end

function delay() -- ms until the next request is due; its place in the row is taken
  due = due + gap
  return math.max(0, math.floor((due - now()) * 1000 + 0.5))
end

function request() -- the moment of sending is the request's id, which comes back
  local body = bodies[sent % #bodies + 1]
  sent = sent + 1
  return string.format("POST /score HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\nx-request-id: %.6f\r\n"
    .. "content-length: %d\r\n\r\n%s", wrk.host, now(), #body, body)
end

function response(status, headers, body)
  local at = tonumber(headers["x-request-id"])
  local whole = body:find('"degraded":[]', 1, true) and 1 or 0
  out:write(string.format("%.6f %.3f %d %d\n", at, (now() - at) * 1000, status, whole))
end
