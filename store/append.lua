-- Put behaviours into one user's tree, atomically; see store/append.py for what it keeps true.
--
-- KEYS: the tree, the user's states. ARGV: J, newest, cap of a category, cap of the user (0 = none), seconds that a user
-- without events is kept (0 = for ever), then for each event: category, record.
-- Returns for each event 1 = put in, 0 = it was there already; last, 1 = the user's states should be made again.

local VERSION, HEADER = 0xB2, 8
local ROW_FACTOR, TS_FACTOR, CROSS_FACTOR = 1999993, 1299709, 1000003 -- as in store/codec.py
local key = KEYS[1]
local J, newest, cap_category, cap_user = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ttl, first_event = tonumber(ARGV[5]), 6
local TAIL = 32 -- events after which states are due
local width = 8 + J

local function number(text, at)
  local a, b, c, d = string.byte(text, at, at + 3)
  return a + b * 256 + c * 65536 + d * 16777216
end

local function bytes(value, count)
  local out = {}
  for i = 1, count do
    out[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(out)
end

local function sum_of(text, at)
  local sum = (number(text, at) * ROW_FACTOR) % 4294967296 + (number(text, at + 4) * TS_FACTOR) % 4294967296
  for j = 0, J - 1 do
    sum = sum + string.byte(text, at + 8 + j) * (CROSS_FACTOR + 2 * j)
  end
  return sum % 4294967296
end

-- A value as {body, sum}; one that is not of this form is an error, and nothing is changed.
local function open(field)
  local blob = redis.call('HGET', key, field)
  if not blob then
    return {body = '', sum = 0}
  end
  local count = (#blob - HEADER) / width
  if #blob < HEADER or string.byte(blob, 1) ~= VERSION or string.byte(blob, 2) ~= J or count % 1 ~= 0
      or count % 65536 ~= string.byte(blob, 3) + string.byte(blob, 4) * 256 then
    return nil
  end
  return {body = string.sub(blob, HEADER + 1), sum = number(blob, 5)}
end

local function close(field, leaf)
  local count = #leaf.body / width
  redis.call('HSET', key, field, string.char(VERSION, J) .. bytes(count % 65536, 2) .. bytes(leaf.sum, 4) .. leaf.body)
end

-- Number of records before (ts, row), and whether the next one is that very pair. Events mostly come last: looked at first.
local function place(body, ts, row)
  local low, high = 0, #body / width
  local middle = high - 1
  while low < high do
    local at = middle * width + 1
    local other_ts, other_row = number(body, at + 4), number(body, at)
    if other_ts < ts or (other_ts == ts and other_row < row) then
      low = middle + 1
    elseif other_ts == ts and other_row == row then
      return middle, true
    else
      high = middle
    end
    middle = math.floor((low + high) / 2)
  end
  return low, false
end

-- Whether it was put in, and whether that was before the leaf's end.
local function put(leaf, record, cap)
  local before, there = place(leaf.body, number(record, 5), number(record, 1))
  if there then
    return false
  end
  local late = before * width < #leaf.body
  leaf.body = string.sub(leaf.body, 1, before * width) .. record .. string.sub(leaf.body, before * width + 1)
  leaf.sum = (leaf.sum + sum_of(record, 1)) % 4294967296
  if cap > 0 and #leaf.body > cap * width then
    leaf.sum = (leaf.sum - sum_of(leaf.body, 1)) % 4294967296
    leaf.body = string.sub(leaf.body, width + 1)
    leaf.dropped = (leaf.dropped or 0) + 1
  end
  return true, late
end

-- Drop the user's oldest behaviours down to the cap. A second is kept or dropped as a whole, so that some may go beyond.
local function trim(fields, total)
  local low, high = 0, 4294967296 -- fewer than `excess` behaviours are before low
  local excess = total - cap_user
  while high - low > 1 do
    local middle, before = math.floor((low + high) / 2), 0
    for _, leaf in pairs(fields) do
      before = before + place(leaf.body, middle, 0)
    end
    if before < excess then low = middle else high = middle end
  end
  local kept = 0
  for field, leaf in pairs(fields) do
    local gone = place(leaf.body, high, 0)
    for i = 0, gone - 1 do
      leaf.sum = (leaf.sum - sum_of(leaf.body, i * width + 1)) % 4294967296
    end
    leaf.body = string.sub(leaf.body, gone * width + 1)
    kept = kept + #leaf.body / width
    if gone > 0 and #leaf.body > 0 then close(field, leaf) end
    if #leaf.body == 0 then redis.call('HDEL', key, field) end
  end
  return kept
end

-- All leaves by field, and how many behaviours they hold; one that cannot be read is left out.
local function all_leaves()
  local fields, total = {}, 0
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local leaf = string.match(field, '^%d+$') and open(field)
    if leaf then
      fields[field] = leaf
      total = total + #leaf.body / width
    end
  end
  return fields, total
end

local touched, reply, added, any_late = {}, {}, 0, false
local recent = open('n')
if not recent then return redis.error_reply('BADRECORD n') end
for i = first_event, #ARGV, 2 do
  local field, record = ARGV[i], ARGV[i + 1]
  touched[field] = touched[field] or open(field)
  if not touched[field] then return redis.error_reply('BADRECORD ' .. field) end
  local new = put(touched[field], record, cap_category)
  if new then
    local _, late = put(recent, record, newest)
    any_late = any_late or late
    added = added + 1
  end
  reply[#reply + 1] = new and 1 or 0
end
local function answer(due)
  if ttl > 0 then -- a duplicate is a sign of life too
    redis.call('EXPIRE', key, ttl)
    redis.call('EXPIRE', KEYS[2], ttl)
  end
  reply[#reply + 1] = due and 1 or 0
  return reply
end
if added == 0 then return answer(false) end

local kept = added
for field, leaf in pairs(touched) do
  close(field, leaf)
  kept = kept - (leaf.dropped or 0)
end
close('n', recent)

local counts = redis.call('HMGET', key, 't', 'a')
local total, arrived = tonumber(counts[1]), tonumber(counts[2])
local fields
if total then total = total + kept else fields, total = all_leaves() end
if cap_user > 0 and total > cap_user + math.floor(cap_user / 64) then
  fields = fields or all_leaves()
  total = trim(fields, total)
end
if not arrived then -- a clock that no earlier tree of this user has shown
  local time = redis.call('TIME')
  arrived = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
redis.call('HSET', key, 't', string.format('%.0f', total), 'a', string.format('%.0f', arrived + added))
return answer(any_late or math.floor((arrived + added) / TAIL) > math.floor(arrived / TAIL))
