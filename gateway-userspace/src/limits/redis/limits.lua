-- Every limit of one client, packed in one string; checked together, written only if all have room.
--
-- KEYS[1]  the client's key
-- ARGV     `take`, `give` or `show`, then 9 values for each limit:
--            id, algorithm (1 sliding log, 2 two counters, 3 GCRA), window in µs, quota, burst,
--            need      units without which nobody gets any (give: the units to give back)
--            want      units to take if they are to be had (give: when they were taken, in µs)
--            divisor   beyond `need`, at most free / divisor are taken
--            advisory  1: a lack of units here stops nobody else
-- Answer   now in µs, 1 if written, then for each limit: units taken, units left, µs until more, 1 if it lacked
--
-- The clock is the server's, and never runs backwards for a client: the latest time seen stands in the state.
-- The arithmetic is that of src/limits/window, in µs.

local MARKS, TICKS, HEAD = 32, 16384, 11
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- Records: id (4), algorithm (1), when it expires in s (4), length of the state (2), the state.
local records, order = {}, {}
local raw = redis.call('GET', KEYS[1])
if raw then
  local at, size = 1, #raw
  while at + HEAD - 1 <= size do
    local id, algorithm, expires, length = struct.unpack('<I4BI4H', raw, at)
    if at + HEAD + length - 1 > size then break end
    if expires * 1000000 > now then
      records[id] = { algorithm, expires, string.sub(raw, at + HEAD, at + HEAD + length - 1) }
      order[#order + 1] = id
    end
    at = at + HEAD + length
  end
end

local log = {}

function log.load(l, state)
  l.tick = ceil(l.window / TICKS)
  l.life = ceil(l.window / l.tick) + 1
  l.grain = ceil(l.quota / MARKS)
  l.marks, l.fill = {}, 0
  local last = 0
  if #state >= 12 then
    local newest, fill = struct.unpack('<dI4', state)
    local count = min(floor((#state - 12) / 2), MARKS)
    last = newest
    l.now = max(floor(now / l.tick), last)
    for i = 1, count do
      local low = struct.unpack('<H', state, 11 + 2 * i)
      local mark = last - (last - low) % 65536
      if mark + l.life > l.now then l.marks[#l.marks + 1] = mark end
    end
    if #l.marks > 0 then l.fill = fill end
  else
    l.now = floor(now / l.tick)
  end
  l.used = 0
  if #l.marks > 0 then l.used = (#l.marks - 1) * l.grain + l.fill end
  l.free = max(l.quota - l.used, 0)
end

local function forgotten(l, mark)
  if not l.marks[mark] then return 0 end
  return max((l.marks[mark] + l.life) * l.tick - now, 0)
end

function log.wait(l)
  if l.need > l.quota or #l.marks == 0 then return l.window end
  return forgotten(l, min(max(ceil((l.used + l.need - l.quota) / l.grain), 1), #l.marks))
end

function log.take(l, units)
  if units > 0 and #l.marks > 0 then
    local here = min(units, l.grain - l.fill)
    if here > 0 then
      l.marks[#l.marks] = l.now
      l.fill = l.fill + here
      units = units - here
    end
  end
  while units > 0 do
    l.fill = min(units, l.grain)
    l.marks[#l.marks + 1] = l.now
    units = units - l.fill
  end
end

function log.give(l, units, taken)
  local tick = floor(taken / l.tick)
  units = min(units, l.used)
  if tick + l.life <= l.now or units <= 0 then return false end
  local first = 1
  while l.marks[first] and l.marks[first] < tick do first = first + 1 end
  -- Fewer than that were counted since: this server has lost some, and these may be another node's.
  if l.used - (first - 1) * l.grain < units then return false end
  local left = l.used - units
  local count = ceil(left / l.grain)
  local marks = {}
  for i = 1, count do
    if i < first then
      marks[i] = l.marks[i]
    else
      local last = min(i * l.grain, left)
      marks[i] = l.marks[min(floor((last - 1 + units) / l.grain) + 1, #l.marks)]
    end
  end
  l.fill = 0
  if count > 0 then l.fill = left - (count - 1) * l.grain end
  l.marks = marks
  return true
end

function log.store(l)
  if #l.marks == 0 then return '', 0 end
  local parts = { struct.pack('<dI4', l.marks[#l.marks], l.fill) }
  for i = 1, #l.marks do parts[i + 1] = struct.pack('<H', l.marks[i] % 65536) end
  return table.concat(parts), (l.marks[#l.marks] + l.life) * l.tick
end

function log.reset(l) return forgotten(l, 1) end

local counters = {}

function counters.load(l, state)
  l.index, l.current, l.previous = floor(now / l.window), 0, 0
  if #state == 16 then
    local index, current, previous = struct.unpack('<dI4I4', state)
    if index >= l.index then
      l.index, l.current, l.previous = index, current, previous
    elseif index == l.index - 1 then
      l.previous = current
    end
  end
  l.rest = (l.index + 1) * l.window - max(now, l.index * l.window)
  l.free = max(l.quota - l.current - ceil(l.previous * l.rest / l.window), 0)
end

function counters.wait(l)
  local room = l.quota - l.need
  if room < 0 then return l.window end
  if l.current <= room then
    return max(ceil(l.rest - l.window * (room - l.current) / max(l.previous, 1)), 1)
  end
  return ceil(l.rest + l.window - min(l.window * room / max(l.current, 1), l.window))
end

function counters.take(l, units) l.current = l.current + units end

function counters.give(l, units, taken)
  local index = floor(taken / l.window)
  if index == l.index then
    l.current = max(l.current - units, 0)
  elseif index == l.index - 1 then
    l.previous = max(l.previous - units, 0)
  else
    return false
  end
  return true
end

function counters.store(l)
  return struct.pack('<dI4I4', l.index, l.current, l.previous), (l.index + 2) * l.window
end

function counters.reset(l) return l.rest end

local gcra = {}

function gcra.load(l, state)
  l.spacing = l.window / l.quota
  l.tat, l.last = 0, 0
  if #state == 16 then l.tat, l.last = struct.unpack('<dd', state) end
  l.busy = max(l.tat - now, 0)
  -- A thousandth of a unit forgives what fractions lose.
  l.free = max(floor(l.burst - l.busy / l.spacing + 0.001), 0)
end

function gcra.wait(l) return max(ceil(l.busy + l.need * l.spacing - l.burst * l.spacing), 1) end

function gcra.take(l, units)
  if units == 0 then return end
  l.busy = l.busy + units * l.spacing
  l.tat, l.last = now + l.busy, now
end

function gcra.give(l, units, taken)
  -- Only the latest: without an earlier unit the later ones might have found it idle.
  if l.last ~= taken then return false end
  l.tat = l.tat - units * l.spacing
  return true
end

function gcra.store(l) return struct.pack('<dd', l.tat, l.last), l.tat end

function gcra.reset(l) return ceil(l.busy) end

local algorithms = { log, counters, gcra }
local action = ARGV[1]
local limits, ok = {}, true
for at = 2, #ARGV, 9 do
  local l = {
    id = tonumber(ARGV[at]), algorithm = tonumber(ARGV[at + 1]), window = tonumber(ARGV[at + 2]),
    quota = tonumber(ARGV[at + 3]), burst = tonumber(ARGV[at + 4]), need = tonumber(ARGV[at + 5]),
    want = tonumber(ARGV[at + 6]), divisor = tonumber(ARGV[at + 7]), advisory = ARGV[at + 8] == '1',
  }
  l.by = algorithms[l.algorithm]
  local record = records[l.id]
  local state = ''
  if record and record[1] == l.algorithm then state = record[3] end
  l.by.load(l, state)
  l.lacks = action == 'take' and l.free < l.need
  if l.lacks and not l.advisory then ok = false end
  limits[#limits + 1] = l
end

local write = false
local answer = { now, 0 }
for i, l in ipairs(limits) do
  local taken, wait = 0, 0
  if l.lacks then wait = l.by.wait(l) end
  if action == 'take' and ok and not l.lacks then
    taken = min(max(l.need, min(l.want, floor(l.free / l.divisor))), l.free)
    l.by.take(l, taken)
    l.changed = taken > 0
  elseif action == 'give' then
    l.changed = l.by.give(l, l.need, l.want)
  end
  write = write or l.changed
  if not l.lacks then wait = l.by.reset(l) end
  local n = 2 + (i - 1) * 4
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = taken, l.free - taken, wait, l.lacks and 1 or 0
end

if write then
  local latest = 0
  for _, l in ipairs(limits) do
    if l.changed then
      local state, expires = l.by.store(l)
      if not records[l.id] then order[#order + 1] = l.id end
      records[l.id] = { l.algorithm, ceil(expires / 1000000), state }
    end
  end
  local parts = {}
  for _, id in ipairs(order) do
    local r = records[id]
    latest = max(latest, r[2])
    parts[#parts + 1] = struct.pack('<I4BI4H', id, r[1], r[2], #r[3]) .. r[3]
  end
  redis.call('SET', KEYS[1], table.concat(parts), 'PX', max(latest * 1000 - floor(now / 1000), 1))
  answer[2] = 1
end
return answer
