-- Put behaviours into one user's tree, atomically; see store/append.py for what it keeps true.
--
-- KEYS: the tree. ARGV: J, newest, cap of a category, cap of the user (0 = none), then for each event: category, record.
-- Returns for each event 1 = put in, 0 = it was there already.

local VERSION, HEADER = 0xB2, 8
local ROW_FACTOR, TS_FACTOR, CROSS_FACTOR = 1999993, 1299709, 1000003 -- as in store/codec.py
local key = KEYS[1]
local J, newest, cap_category, cap_user = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
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

local function put(leaf, record, cap)
  local before, there = place(leaf.body, number(record, 5), number(record, 1))
  if there then
    return false
  end
  leaf.body = string.sub(leaf.body, 1, before * width) .. record .. string.sub(leaf.body, before * width + 1)
  leaf.sum = (leaf.sum + sum_of(record, 1)) % 4294967296
  if cap > 0 and #leaf.body > cap * width then
    leaf.sum = (leaf.sum - sum_of(leaf.body, 1)) % 4294967296
    leaf.body = string.sub(leaf.body, width + 1)
    leaf.dropped = (leaf.dropped or 0) + 1
  end
  return true
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

local touched, reply, added = {}, {}, 0
local recent = open('n')
if not recent then return redis.error_reply('BADRECORD n') end
for i = 5, #ARGV, 2 do
  local field, record = ARGV[i], ARGV[i + 1]
  touched[field] = touched[field] or open(field)
  if not touched[field] then return redis.error_reply('BADRECORD ' .. field) end
  local new = put(touched[field], record, cap_category)
  if new then
    put(recent, record, newest)
    added = added + 1
  end
  reply[#reply + 1] = new and 1 or 0
end
if added == 0 then return reply end
for field, leaf in pairs(touched) do
  close(field, leaf)
  added = added - (leaf.dropped or 0)
end
close('n', recent)

if cap_user > 0 then
  local total, most = redis.call('HINCRBY', key, 't', added), cap_user + math.floor(cap_user / 64)
  if total == added or total > most then -- not counted yet, or too many
    local fields, flat = {}, redis.call('HKEYS', key)
    total = 0
    for _, field in ipairs(flat) do
      if field ~= 'n' and field ~= 't' then
        local leaf = open(field)
        if leaf then
          fields[field] = leaf
          total = total + #leaf.body / width
        end
      end
    end
    if total > most then total = trim(fields, total) end
    redis.call('HSET', key, 't', total)
  end
end
return reply
