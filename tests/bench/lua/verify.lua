-- Asks for cards by number, each with its recorded hardware; tests/bench/cards.py and load.py have the same formulas.
-- Arguments: hardware prefix, function, public key or "-", "random" or "each", first number, how many,
-- "close" for a new connection each time or "-".
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "summary.lua")

local body, mode, first, count
local number, threads = 0, 0

function setup(thread)
  threads = threads + 1
  thread:set("seed", os.time() + threads * 1000)
end

function init(args)
  local public_key = args[3] ~= "-" and string.format(', "client_public_key": "%s"', args[3]) or ""
  body = string.format(
    '{"card_id": "%%.0f%%.0f", "hardware": "%s%%d", "function": "%s", "nonce": "bench-nonce-%%020d"%s}',
    args[1], args[2], public_key)
  mode, first, count = args[4], tonumber(args[5]), tonumber(args[6])
  math.randomseed(seed)
  wrk.headers["Content-Type"] = "application/json"
  if args[7] == "close" then wrk.headers["Connection"] = "close" end
end

function request()
  local i = first + (mode == "random" and math.random(0, count - 1) or math.min(number, count - 1))
  number = number + 1
  local scattered = 1000000000000000 + ((i * 618033989) % 1000000007) * 1000000
  return wrk.format("POST", nil, nil, string.format(body, scattered, 1000000000000000 + i, i, number))
end
