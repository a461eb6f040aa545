-- Put behaviours into one user's tree, atomically; see store/append.py for what it keeps true.
--
-- KEYS: the tree; where users expire, their states too. ARGV: J, newest, cap of a category, cap of the user (0 = none), seconds that a user
-- without events is kept (0 = for ever), events after which states are due, then for each event: category, record.
-- Returns for each event 1 = put in, 0 = it was there already, or is older than all that the cap of its category keeps; last,
-- 1 = the user's states should be made again.

local VERSION, VERSION_WITH_OLDER, HEADER, CHUNK = 0xB2, 0xB3, 8, 128 -- these and the factors as in store/codec.py
local ROW_FACTOR, TS_FACTOR, CROSS_FACTOR, OLDER_FACTOR = 1999993, 1299709, 1000003, 1600033
local key = KEYS[1]
local J, newest, cap_category, cap_user = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ttl, due_every, first_event = tonumber(ARGV[5]), tonumber(ARGV[6]), 7
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

-- A value as {body, sum, older, ...}: its records, their sum, how many are before them in the field beside it. nil where it is
-- not of this form; its records are not looked at: that would cost the whole leaf. `marks` are places in it of which the sum of
-- the records behind them is known: without them all records would be read where it is split anew.
local function leaf_of(field, blob)
  local version, header, older = string.byte(blob, 1), HEADER, 0
  if version == VERSION_WITH_OLDER and #blob >= HEADER + 4 then
    version, header, older = VERSION, HEADER + 4, number(blob, HEADER + 1)
    if older == 0 then return nil end
  end
  local count = (#blob - header) / width
  if #blob < header or version ~= VERSION or string.byte(blob, 2) ~= J or count % 1 ~= 0 or older % CHUNK ~= 0
      or count % 65536 ~= string.byte(blob, 3) + string.byte(blob, 4) * 256 then
    return nil
  end
  local sum = (number(blob, 5) - older * OLDER_FACTOR) % 4294967296
  return {
    field = field, body = string.sub(blob, header + 1), sum = sum, ending = {}, older = older, had_older = older > 0,
    marks = {{behind = 0, sum = 0}}, changed = false,
  }
end

local NO_RECORDS = string.char(VERSION, J, 0, 0, 0, 0, 0, 0)

local function open(field)
  return leaf_of(field, redis.call('HGET', key, field) or NO_RECORDS)
end

-- Records that came in order stand aside, so that a call of many copies a long leaf once.
local function joined(leaf)
  if #leaf.ending > 0 then
    leaf.body = leaf.body .. table.concat(leaf.ending)
    leaf.ending = {}
  end
  return leaf.body
end

local function open_size(leaf)
  return #leaf.body / width + #leaf.ending
end

local function size(leaf) -- of the whole category
  return leaf.older + open_size(leaf)
end

local function last_record(leaf)
  return leaf.ending[#leaf.ending] or string.sub(leaf.body, -width)
end

local function is_before(record, body) -- its first one, or there is none
  local ts, first = number(record, 5), body ~= '' and number(body, 5)
  return not first or ts < first or (ts == first and number(record, 1) < number(body, 1))
end

-- Open a leaf to its first record, if one is older than what is open, or in any case (nil). Returns the field that cannot be
-- read, if it is needed.
local function reach(leaf, record)
  if leaf.older == 0 or (record and not is_before(record, leaf.body)) then return end
  local field = leaf.field .. '.older'
  local before = open(field)
  if not before or before.older > 0 or #before.body ~= leaf.older * width then return field end
  leaf.marks[#leaf.marks + 1] = {behind = open_size(leaf), sum = leaf.sum}
  leaf.body, leaf.sum, leaf.older = before.body .. leaf.body, (leaf.sum + before.sum) % 4294967296, 0
end

-- Of a leaf that is open to its first record.
local function drop_oldest(leaf, count)
  local body = joined(leaf)
  for i = 0, count - 1 do
    leaf.sum = (leaf.sum - sum_of(body, i * width + 1)) % 4294967296
  end
  leaf.body, leaf.changed = string.sub(body, count * width + 1), true
end

-- The sum of the records behind a place, from the nearest place on of which it is known; the leaf is open to its first record.
local function sum_behind(leaf, behind)
  local records = #leaf.body / width
  local near = {behind = records, sum = leaf.sum}
  for _, mark in ipairs(leaf.marks) do
    if math.abs(mark.behind - behind) < math.abs(near.behind - behind) then near = mark end
  end
  local sum = near.sum
  for i = near.behind + 1, behind do sum = sum + sum_of(leaf.body, (records - i) * width + 1) end
  for i = behind + 1, near.behind do sum = sum - sum_of(leaf.body, (records - i) * width + 1) end
  return sum % 4294967296
end

local function write(field, body, sum, older)
  local version, before = VERSION, ''
  if older > 0 then
    version, before, sum = VERSION_WITH_OLDER, bytes(older, 4), (sum + older * OLDER_FACTOR) % 4294967296
  end
  redis.call('HSET', key, field, string.char(version, J) .. bytes(#body / width % 65536, 2) .. bytes(sum, 4) .. before .. body)
end

-- Write what is open of a leaf that changed. One without records is none.
local function close(leaf)
  if not leaf.changed then return end
  local body = joined(leaf)
  if leaf.older > 0 then return write(leaf.field, body, leaf.sum, leaf.older) end
  local beside, older = leaf.field .. '.older', math.max(math.floor(size(leaf) / CHUNK) - 1, 0) * CHUNK
  local sum = sum_behind(leaf, size(leaf) - older)
  if older > 0 then
    write(beside, string.sub(body, 1, older * width), (leaf.sum - sum) % 4294967296, 0)
  elseif leaf.had_older then
    redis.call('HDEL', key, beside)
  end
  if body == '' then redis.call('HDEL', key, leaf.field) else write(leaf.field, string.sub(body, older * width + 1), sum, older) end
end

-- Number of records before (ts, row), and whether the next one is that very pair.
local function place(body, ts, row)
  local low, high = 0, #body / width
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = middle * width + 1
    local other_ts, other_row = number(body, at + 4), number(body, at)
    if other_ts < ts or (other_ts == ts and other_row < row) then
      low = middle + 1
    elseif other_ts == ts and other_row == row then
      return middle, true
    else
      high = middle
    end
  end
  return low, false
end

-- Count a record in, before so many others.
local function count_in(leaf, record, behind)
  local sum = sum_of(record, 1)
  leaf.sum, leaf.changed = (leaf.sum + sum) % 4294967296, true
  for _, mark in ipairs(leaf.marks) do
    if mark.behind > behind then mark.behind, mark.sum = mark.behind + 1, mark.sum + sum end
  end
end

-- Whether it was put in, and the time of the record that now follows it; nil = it is the last. A leaf may grow beyond its
-- cap until it is closed; what would not be kept then is not put in. The leaf is open to a record that is not after this one.
local function put(leaf, record, cap)
  local ts, row = number(record, 5), number(record, 1)
  local last = last_record(leaf)
  local last_ts = last ~= '' and number(last, 5)
  if not last_ts or last_ts < ts or (last_ts == ts and number(last, 1) < row) then
    leaf.ending[#leaf.ending + 1] = record
    count_in(leaf, record, 0)
    return true
  end
  local body = joined(leaf)
  local before, there = place(body, ts, row)
  local next_ts = number(body, before * width + 5)
  if there or (cap > 0 and leaf.older + before < size(leaf) + 1 - cap) then
    return false, next_ts
  end
  leaf.body = string.sub(body, 1, before * width) .. record .. string.sub(body, before * width + 1)
  count_in(leaf, record, #body / width - before)
  return true, next_ts
end

-- All leaves by field, their newest records open, and how many behaviours they hold; one that cannot be read is left out.
local function all_leaves()
  local fields, total = {}, 0
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local leaf = string.match(field, '^%d+$') and open(field)
    if leaf then
      fields[field] = leaf
      total = total + size(leaf)
    end
  end
  return fields, total
end

-- Drop the user's oldest behaviours down to the cap: all seconds before one, and of that one the least rows.
local function trim(fields, total)
  for field, leaf in pairs(fields) do
    local held = size(leaf)
    if reach(leaf) then fields[field], total = nil, total - held end
  end
  local function before(ts, row)
    local count = 0
    for _, leaf in pairs(fields) do
      count = count + place(leaf.body, ts, row)
    end
    return count
  end
  local excess = total - cap_user
  local function least(low, high, count_at) -- the least value at which as many as have to go are before
    while high - low > 1 do
      local middle = math.floor((low + high) / 2)
      if count_at(middle) < excess then low = middle else high = middle end
    end
    return high
  end
  local ts = least(0, 4294967296, function(value) return before(value, 0) end) - 1
  local row = least(0, 4294967296, function(value) return before(ts, value) end)
  local kept = 0
  for _, leaf in pairs(fields) do
    local gone = place(leaf.body, ts, row)
    if gone > 0 then
      drop_oldest(leaf, gone)
      close(leaf)
    end
    kept = kept + size(leaf)
  end
  return kept
end

-- The newest list made of the leaves, where its own value cannot be read.
local function newest_of_all()
  local found = {}
  for _, leaf in pairs(all_leaves()) do
    local count = #leaf.body / width
    for i = math.max(count - newest, 0), count - 1 do
      found[#found + 1] = string.sub(leaf.body, i * width + 1, (i + 1) * width)
    end
  end
  table.sort(found, function(a, b)
    local a_ts, b_ts = number(a, 5), number(b, 5)
    return a_ts < b_ts or (a_ts == b_ts and number(a, 1) < number(b, 1))
  end)
  local list = leaf_of('n', NO_RECORDS)
  for i = math.max(#found - newest, 0) + 1, #found do
    put(list, found[i], newest)
  end
  return list
end

-- A counter of the tree; nil where it is none.
local function counter(value)
  return value and #value <= 16 and string.match(value, '^%d+$') and tonumber(value)
end

local time = redis.call('TIME')
local now = tonumber(time[1])
local touched, reply, added, due = {}, {}, 0, false
local recent = open('n')
if not recent or recent.older > 0 or (recent.body == '' and redis.call('EXISTS', key) == 1) then recent = newest_of_all() end
for i = first_event, #ARGV, 2 do
  local field, record = ARGV[i], ARGV[i + 1]
  local leaf, unreadable = touched[field] or open(field), field
  if leaf then unreadable = reach(leaf, record) end
  if unreadable then return redis.error_reply('BADRECORD ' .. unreadable) end
  touched[field] = leaf
  local new = put(leaf, record, cap_category)
  if new then
    local _, next_ts = put(recent, record, newest)
    due = due or (next_ts and next_ts <= now) -- it came late; one that says it is of the future makes no other late
    added = added + 1
  end
  reply[#reply + 1] = new and 1 or 0
end
if added > 0 then
  local kept = added
  for _, leaf in pairs(touched) do
    local over = cap_category > 0 and size(leaf) - cap_category or 0
    local unreadable = (over > 0 or open_size(leaf) >= 2 * CHUNK) and reach(leaf)
    if unreadable then return redis.error_reply('BADRECORD ' .. unreadable) end -- nothing is written yet
    if over > 0 then
      drop_oldest(leaf, over)
      kept = kept - over
    end
  end
  for _, leaf in pairs(touched) do close(leaf) end
  if size(recent) > newest then drop_oldest(recent, size(recent) - newest) end
  close(recent)

  local counts = redis.call('HMGET', key, 't', 'a')
  local total, arrived = counter(counts[1]), counter(counts[2])
  total = total and total + kept
  if not total or (cap_user > 0 and total > cap_user + math.floor(cap_user / 64)) then
    local fields, found = all_leaves()
    total = found
    if cap_user > 0 and total > cap_user + math.floor(cap_user / 64) then total = trim(fields, total) end
  end
  if not arrived then -- a clock that no earlier tree of this user has shown
    arrived = now * 1000000 + tonumber(time[2])
  end
  redis.call('HSET', key, 't', string.format('%.0f', total), 'a', string.format('%.0f', arrived + added))
  due = due or math.floor((arrived + added) / due_every) > math.floor(arrived / due_every)
end

if ttl > 0 then -- a duplicate is a sign of life too
  redis.call('EXPIRE', key, ttl)
  redis.call('EXPIRE', KEYS[2], ttl)
elseif redis.call('TTL', key) > 0 then -- users did expire once
  redis.call('PERSIST', key)
end
reply[#reply + 1] = due and 1 or 0
return reply
