-- Every limit of one client, packed in one string; checked together, written only if all have room.
--
-- KEYS[1]  the client's key
-- ARGV[1]  `take`, `give` or `show`
-- ARGV[2]  for each limit, packed (little-endian, 50 bytes; times are doubles):
--            id (4), algorithm (1: 1 sliding log, 2 GCRA),
--            advisory (1: 1 if a lack of units here stops nobody else), quota (4), burst (4),
--            need (4)      units without which nobody gets any (give: the units to give back)
--            divisor (4)   beyond `need`, at most free / divisor are taken
--            whole (4)     GCRA: the burst that may be had at once by who has rested for a lease
--            lease (8)     how long units may be spent after they were taken, in µs
--            window (8)    in µs
--            want (8)      units to take if they are to be had (give: when they were taken, in µs)
-- ARGV[3]  when taking: how long what is counted now may be of use, in ms
-- Answer   packed: now in µs (8), then for each limit: units taken (4), units left (4), µs until more (8), 1 if it lacked (1)
--
-- The clock is the server's, and never runs backwards for a client: the latest time seen stands in the state.
-- The arithmetic is that of src/limits/window, in µs. What runs anew with every call is dear: a function made here, a
-- number turned into text, a table that grows, an answer of many parts.

local math, string, struct = math, string, struct
local floor, ceil, max, min, byte, rep, sub = math.floor, math.ceil, math.max, math.min, string.byte, string.rep, string.sub
local pack, read = struct.pack, struct.unpack
local call = redis.call
local MARKS, TICKS, HEAD, ARGUMENT = 32, 16384, 19, 50

local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local action, packed = ARGV[1], ARGV[2]
local takes, gives = action == 'take', action == 'give'

local raw = call('GET', KEYS[1])

-- The usual question, answered without any table: one sliding log of a client of whom nothing else is known.
if takes and #packed == ARGUMENT then
  local id, algorithm, _, quota, _, need, divisor, _, _, window, want = read('<I4BBI4I4I4I4I4ddd', packed)
  local is_alone, born, last, fill, count = not raw, now, 0, 0, 0
  if raw and #raw >= HEAD + 12 then
    local its, kind, expires, begun, length, at, filled = read('<I4BI4dHdI4', raw)
    is_alone = its == id and kind == 1 and #raw == HEAD + length
    if expires * 1000000 > now then born, last, fill, count = begun, at, filled, floor((length - 12) / 2) end
  end
  if algorithm == 1 and is_alone then
    local tick = ceil(window / TICKS)
    local life = ceil(window / tick) + 1
    local grain = ceil(quota / MARKS)
    local newest = max(floor(now / tick), last)
    -- Marks are forgotten from the oldest on; `from` is where the first one lies that is not.
    local from, oldest = HEAD + 13, newest
    while count > 0 do
      local low, high = byte(raw, from, from + 1)
      local mark = last - (last - low - 256 * high) % 65536
      if mark + life > newest then
        oldest = mark
        break
      end
      from, count = from + 2, count - 1
    end
    local free = quota
    if count > 0 then free = max(quota - (count - 1) * grain - fill, 0) else fill = 0 end
    local taken = need
    if want > need then taken = min(max(need, min(want, floor(free / divisor))), free) end
    if need <= free and taken > 0 then
      local kept, more, units = '', 0, taken
      if count > 0 then
        local here = min(units, grain - fill)
        -- What still fits the newest mark makes it as late as that.
        if here > 0 then fill, units, count, more = fill + here, units - here, count - 1, 1 end
        if count > 0 then kept = sub(raw, from, from + 2 * count - 1) end
        -- It may have been the only one.
        if count == 0 then oldest = newest end
      end
      if units > 0 then
        local new = ceil(units / grain)
        fill, more = units - (new - 1) * grain, more + new
      end
      local expires, length = ceil((newest + life) * tick / 1000000), 12 + 2 * (count + more)
      local text
      if count == 0 then
        text = pack('<I4BI4dHdI4H', id, 1, expires, born, length, newest, fill, newest % 65536)
        if more > 1 then text = text .. rep(sub(text, -2), more - 1) end
      else
        text = pack('<I4BI4dHdI4', id, 1, expires, born, length, newest, fill) .. kept .. rep(pack('<H', newest % 65536), more)
      end
      call('SET', KEYS[1], text, 'PX', ARGV[3])
      return pack('<dI4I4dB', now, taken, free - taken, max((oldest + life) * tick - now, 0), 0)
    end
  end
end

-- Records: id (4), algorithm (1), when it expires in s (4), when it was begun in µs (8), length of the state (2), the state.
local records, order
if raw then
  records, order = {}, {}
  local at, size = 1, #raw
  while at + HEAD - 1 <= size do
    local id, algorithm, expires, born, length = read('<I4BI4dH', raw, at)
    if at + HEAD + length - 1 > size then break end
    if expires * 1000000 > now then
      records[id] = { algorithm, expires, born, sub(raw, at + HEAD, at + HEAD + length - 1) }
      order[#order + 1] = id
    end
    at = at + HEAD + length
  end
end

local limits, ok = {}, true
for at = 1, #packed, ARGUMENT do
  local id, algorithm, advisory, quota, burst, need, divisor, whole, lease, window, want =
    read('<I4BBI4I4I4I4I4ddd', packed, at)
  local l = { id, algorithm, quota, burst, need, divisor, window, want }
  local record = records and records[id]
  local state = ''
  if record and record[1] == algorithm then
    state, l.born = record[4], record[3]
  end
  local free
  if algorithm == 1 then
    local tick = ceil(window / TICKS)
    local life = ceil(window / tick) + 1
    local grain = ceil(quota / MARKS)
    local marks, fill, used = {}, 0, 0
    local tick_now = floor(now / tick)
    if #state >= 12 then
      local last, filled = read('<dI4', state)
      local count = min(floor((#state - 12) / 2), MARKS)
      tick_now = max(tick_now, last)
      local lows = { read('<' .. rep('H', count), state, 13) }
      for i = 1, count do
        local mark = last - (last - lows[i]) % 65536
        if mark + life > tick_now then marks[#marks + 1] = mark end
      end
      if #marks > 0 then
        fill = filled
        used = (#marks - 1) * grain + fill
      end
    end
    free = max(quota - used, 0)
    l.tick, l.life, l.grain, l.marks, l.fill, l.used, l.now = tick, life, grain, marks, fill, used, tick_now
  else
    local spacing, tat, last = window / quota, 0, 0
    if #state == 16 then tat, last = read('<dd', state) end
    local busy = max(tat - now, 0)
    -- A thousandth of a unit forgives what fractions lose.
    free = max(floor(burst - busy / spacing + 0.001), 0)
    -- Everybody's leases are over who took before: as much as the whole burst may be spent at one moment.
    if need > burst and need <= whole and tat + lease <= now then free = need end
    l.spacing, l.tat, l.last, l.busy, l.whole, l.lease = spacing, tat, last, busy, whole, lease
  end
  l.free = free
  if takes and free < need then
    l.lacks = true
    if advisory ~= 1 then ok = false end
  end
  limits[#limits + 1] = l
end

local write = false
local answer = pack('<d', now)
for i = 1, #limits do
  local l = limits[i]
  local algorithm, quota, burst, need, divisor, window, want = l[2], l[3], l[4], l[5], l[6], l[7], l[8]
  local taken, wait, changed = 0, 0, false
  if takes and ok and not l.lacks then
    taken = min(max(need, min(want, floor(l.free / divisor))), l.free)
    changed = taken > 0
  end
  -- What was taken before this record began was counted by one that is lost, or that has expired: of this one it would be
  -- another's.
  local back = gives and l.born and want >= l.born and need or 0

  if algorithm == 1 then
    local marks, grain = l.marks, l.grain
    if taken > 0 then
      local units = taken
      if #marks > 0 then
        local here = min(units, grain - l.fill)
        if here > 0 then
          marks[#marks] = l.now
          l.fill = l.fill + here
          units = units - here
        end
      end
      while units > 0 do
        l.fill = min(units, grain)
        marks[#marks + 1] = l.now
        units = units - l.fill
      end
    elseif back > 0 then
      local tick = floor(want / l.tick)
      local units = min(back, l.used)
      local first = 1
      while marks[first] and marks[first] < tick do first = first + 1 end
      -- Fewer than that were counted since: these may be another node's.
      if tick + l.life > l.now and units > 0 and l.used - (first - 1) * grain >= units then
        local left = l.used - units
        local count = ceil(left / grain)
        local kept = {}
        for j = 1, count do
          if j < first then
            kept[j] = marks[j]
          else
            kept[j] = marks[min(floor((min(j * grain, left) - 1 + units) / grain) + 1, #marks)]
          end
        end
        l.fill = 0
        if count > 0 then l.fill = left - (count - 1) * grain end
        marks, changed = kept, true
      end
    end
    if l.lacks then
      if need > quota or #marks == 0 then
        wait = window
      else
        local mark = min(max(ceil((l.used + need - quota) / grain), 1), #marks)
        wait = max((marks[mark] + l.life) * l.tick - now, 0)
      end
    elseif marks[1] then
      wait = max((marks[1] + l.life) * l.tick - now, 0)
    end
    if changed then
      local count = #marks
      if count == 0 then
        l.state, l.expires = '', 0
      else
        local last = marks[count]
        l.expires = (last + l.life) * l.tick
        for j = 1, count do marks[j] = marks[j] % 65536 end
        l.state = pack('<dI4' .. rep('H', count), last, l.fill, unpack(marks))
      end
    end
  else
    local spacing = l.spacing
    if taken > 0 then
      l.busy = l.busy + taken * spacing
      l.tat, l.last = now + l.busy, now
    elseif back > 0 and l.last == want then
      -- Only the latest: without an earlier unit the later ones might have found it idle.
      l.tat, changed = l.tat - back * spacing, true
    end
    if not l.lacks then
      wait = ceil(l.busy)
    elseif need > l.whole then
      wait = window
    elseif need > burst then
      wait = max(ceil(l.tat + l.lease - now), 1)
    else
      wait = max(ceil(l.busy + (need - burst) * spacing), 1)
    end
    if changed then
      l.state, l.expires = pack('<dd', l.tat, l.last), l.tat
    end
  end

  if changed then
    write = true
    l.changed = true
  end
  answer = answer .. pack('<I4I4dB', taken, l.free - taken, wait, l.lacks and 1 or 0)
end

if write then
  local latest, parts = 0, {}
  records, order = records or {}, order or {}
  for i = 1, #limits do
    local l = limits[i]
    if l.changed then
      if not records[l[1]] then order[#order + 1] = l[1] end
      records[l[1]] = { l[2], ceil(l.expires / 1000000), l.born or now, l.state }
    end
  end
  for i = 1, #order do
    local r = records[order[i]]
    latest = max(latest, r[2])
    parts[i] = pack('<I4BI4dH', order[i], r[1], r[2], r[3], #r[4]) .. r[4]
  end
  call('SET', KEYS[1], table.concat(parts), 'PX', max(latest * 1000 - floor(now / 1000), 1))
end
return answer
