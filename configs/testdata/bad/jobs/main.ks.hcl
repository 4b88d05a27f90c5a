cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

stream "plays" {
  partitions = 8
  key        = "user_id"
  schema     = object({ user_id = string, title_id = string, ts = timestamp_ms, day = string, n = int, tags = list(string) })
}

stream "titles" {
  key    = "title_id"
  config = { "cleanup.policy" = "compact" }
  schema = object({ title_id = string, name = string })
}

stream "nokey" {}

stream "out" {}

stream "typed" {
  schema = object({ user = string, n = string, must = int })
}

stream "byuser" {
  key = "user"
}

source "file" "lines" {}

sink "stdout" "screen" {}

job "empty" { # ERROR: Job that reads nothing # ERROR: Job that writes nothing
}

job "words" {
  restore = "newest" # ERROR: neither "latest", "fresh" nor "savepoint:NAME"
  on_error = "pass" # ERROR: takes one of "dead_letter", "drop" or "stop"
  parallelism = 200 # ERROR: at most as many tasks as key_groups
  read "plays" {
    from  = stream.plays
    start = "yesterday" # ERROR: neither "earliest", "latest" nor a time
  }
  read "typo" {
    from       = stream.plays
    watermarks = "1s" # ERROR: Did you mean "watermark"?
  }
  write "out" {
    input = read.plays
    to    = stream.out
  }
}

job "wiring" {
  read "plays" {
    from = stream.plays
  }
  read "idle" { # ERROR: Unused operator
    from = stream.plays
  }
  read "job" {
    from = job.words # ERROR: a reference to a stream or a source
  }
  filter "a" { # ERROR: filter.a → filter.c → filter.b → filter.a
    input = filter.b
    where = "n > 1"
  }
  filter "b" {
    input = filter.c
    where = "n > 1"
  }
  filter "c" {
    input = filter.a
    where = "n > 1"
  }
  filter "d" {
    input = read.play # ERROR: Did you mean "read.plays"?
    where = "n > 1"
  }
  filter "e" {
    input = stream.plays # ERROR: then write input = read.plays
    where = "n > 1"
  }
  filter "f" {
    input = "read.plays" # ERROR: without quotes
    where = "n > 1"
  }
  filter "g" {
    input = read.plays.late # ERROR: Only windows with an end have late rows
    where = "n > 1"
  }
  filter "h" {
    input = write.out # ERROR: gives nothing on
    where = "n > 1"
  }
  split "s" {
    input = read.plays
    branch "x" {
      where = "n > 1"
    }
    branch "rest" { # ERROR: cannot be the name of a branch
      where = "n > 2"
    }
  }
  split "t" {
    input = read.plays
    branch "x" {
      where = "n" # ERROR: A condition is true or false
    }
  }
  split "u" {
    input = read.plays
    branch "xyz" {
      where = "n > 1"
    }
  }
  write "out" {
    input = filter.d
    to    = stream.out
  }
  write "a" {
    input = split.u # ERROR: write split.u.rest or split.u.xyz
    to    = stream.out
  }
  write "b" {
    input = split.u.xy # ERROR: Did you mean "xyz"?
    to    = stream.out
  }
  write "c" {
    input = filter.a
    to    = stream.out
  }
  write "d" { # ERROR: The option "write.d.input" is required
    to = stream.out
  }
}

job "expressions" {
  read "a" {
    from       = stream.plays
    event_time = "day" # ERROR: Write parse_time
  }
  read "b" {
    from       = stream.plays
    event_time = "tss" # ERROR: Did you mean "ts"?
  }
  read "lines" { # ERROR: Events without a time
    from = source.lines
  }
  read "now" {
    from            = stream.plays
    processing_time = true # WARNING: Not deterministic
  }
  filter "late" {
    input = read.now
    where = "ts < now()" # ERROR: A job gives the same rows
  }
  project "p" {
    input   = read.now
    project = { user = "user_id", m = "meta.offset" }
  }
  filter "meta" {
    input = project.p
    where = "meta.offset > 1" # ERROR: No meta here
  }
  filter "gone" {
    input = project.p
    where = "n > 1" # ERROR: no field "n"
  }
  project "nothing" { # ERROR: changes nothing
    input = read.now
  }
  explode "e" {
    input = read.now
    field = "n" # ERROR: must be a list
  }
  explode "f" {
    input = read.now
    field = "tags"
    as    = "day" # ERROR: already have a field "day"
  }
  write "out" {
    input = read.now
    to    = stream.out
  }
}

job "keyed" {
  read "plays" {
    from = stream.plays
  }
  dedup "d" {
    input = read.plays
    key   = {} # ERROR: Missing key
    ttl   = "1d"
  }
  dedup "ok" {
    input = read.plays
    key   = { user = "user_id", n = "n" }
    ttl   = "1d"
  }
  dedup "spread" { # WARNING: Not deterministic # ERROR: Unused operator
    input = read.plays
    key   = { title = "title_id" }
    ttl   = "1d"
  }
  dedup "no" { # ERROR: The option "dedup.no.key" is required # ERROR: The option "dedup.no.ttl" is required
    input = read.plays
  }
  lookup "a" {
    input = read.plays
    from  = stream.nokey # ERROR: does not say what that is # WARNING: is not compacted
    key   = { id = "title_id" }
    as    = "t"
    as_of = "event_time"
  }
  lookup "b" { # WARNING: Not deterministic
    input = read.plays
    from  = stream.titles
    key   = { id = "title_id" } # ERROR: write key = { title_id = … }
    as    = "day" # ERROR: two fields "day"
  }
  join "a" { # ERROR: Write one of interval
    left      = read.plays
    right     = read.plays
    left_key  = { u = "user_id", n = "n" } # ERROR: right_key has no "n"
    right_key = { u = "n" } # ERROR: is string on the left and int here
  }
  join "b" {
    left      = read.plays
    right     = read.plays
    left_key  = {} # ERROR: Missing key
    right_key = {}
    interval { # ERROR: Interval of nothing
    }
    tumbling { # ERROR: keep one of them
      size = "1m"
    }
  }
  join "c" {
    left      = read.plays
    right     = read.plays
    left_key  = { u = "user_id" }
    right_key = { u = "user_id" }
    tumbling {
      size = "1m"
    }
    project = { n = "left.m" } # ERROR: no field "m"
  }
  union "u" {
    input = [read.plays, project.p] # ERROR: Inputs do not fit
  }
  union "none" {
    input = [] # ERROR: Union of nothing
  }
  project "p" {
    input   = read.plays
    project = { n = "'x'" }
  }
  top "t" {
    input    = read.plays
    key      = {}
    order_by = "tags" # ERROR: Values without an order
    n        = 3
  }
  write "ok" {
    input = dedup.ok
    to    = stream.out
  }
}

job "windows" {
  read "plays" {
    from = stream.plays
  }
  window "none" { # ERROR: Which window?
    input     = read.plays
    key       = { user = "user_id" }
    aggregate = { n = "count()" }
  }
  window "global" { # ERROR: Window that never closes
    input = read.plays
    key   = { user = "user_id" }
    global {
    }
    aggregate = { n = "count()" }
  }
  aggregate "close" {
    input     = read.plays
    key       = { user = "user_id" }
    aggregate = { n = "count()" }
    emit      = "on_close" # ERROR: Window that never closes
  }
  window "hop" {
    input = read.plays
    key   = { user = "user_id" }
    hopping {
      size  = "5m" # ERROR: a multiple of every
      every = "2m"
    }
    aggregate = { n = "count()" }
  }
  window "clash" {
    input     = read.plays
    key       = { user = "user_id", window_end = "n" } # ERROR: two fields "window_end"
    aggregate = { user = "count()" } # ERROR: two fields "user"
    emit      = "onclose" # ERROR: neither "on_close", "on_update" nor a duration
    tumbling {
      size = "1m"
    }
  }
  window "sums" {
    input = read.plays
    key   = { user = "user" } # ERROR: no field "user"
    aggregate = {
      a = "sum(day)" # ERROR: sum is of a number
      b = "n" # ERROR: There are many rows here
      c = "count(now())" # ERROR: Use the event's time
      d = "top_k(n)" # ERROR: top_k(x, k)
    }
    tumbling {
      size = "1m"
    }
  }
  window "good" {
    input            = read.plays
    key              = { user = "user_id" }
    allowed_lateness = "1m"
    aggregate        = { n = "count()" }
    tumbling {
      size = "1m"
    }
  }
  top "after" {
    input    = window.good # ERROR: Rows that change into an operator with state
    key      = {}
    order_by = "n"
    n        = 3
  }
  project "drops" {
    input   = window.good
    project = { user = "user", n = "n" } # ERROR: keep these fields as they are
  }
  union "both" {
    input = [window.good, window.good] # ERROR: Rows that change in a union # ERROR: Rows that change in a union
  }
  write "append" { # ERROR: Rows that change are appended
    input = window.good
    to    = stream.out
  }
  write "both" {
    input     = window.good
    to        = stream.out
    changelog = "upsert"
    revisions = true # ERROR: Keep one of them
  }
  write "key" {
    input     = window.good
    to        = stream.byuser # ERROR: leaves "window_start" out
    changelog = "upsert"
  }
  write "screen" {
    input     = window.good
    to        = sink.screen
    changelog = "upsert" # ERROR: Sink that cannot replace rows
  }
  write "typed" {
    input     = window.typed
    to        = stream.typed # ERROR: The field "must" (int) is required there
  }
  window "typed" {
    input     = read.plays
    key       = { user = "user_id" }
    aggregate = { n = "count()" } # ERROR: "n" is int, and declared there as string
    tumbling {
      size = "1m"
    }
  }
  write "upsert" {
    input     = read.plays
    to        = stream.out
    changelog = "upsert" # ERROR: Missing key
  }
}

stream "circle" {}

job "circle" {
  read "a" {
    from = stream.circle # ERROR: stream.circle → job.circle
  }
  write "b" {
    input = read.a
    to    = stream.circle
  }
}

stream "there" {}

stream "back" {}

job "half" {
  read "a" {
    from = stream.back
  }
  write "b" {
    input = read.a
    to    = stream.there
  }
}

route "half" {
  from = stream.there
  to   = stream.back # ERROR: Route that feeds its own source
}

job "forms" {
  read { # ERROR: Write read "NAME"
  }
  read "a" {
    from = stream.plays
  }
  read "a" { # ERROR: is already written at
    from = stream.plays
  }
  read "A" { # ERROR: cannot be a name
  }
  filter = "x" # ERROR: a nested block with a name
  write "x" {
    input = read.a
    to    = stream.out
  }
}
