# The main job: a stream on a broker, filtered and projected into another
# stream, and from there into a file. Without a cluster block the broker is
# the embedded one.

source "generator" "players" {
  rate = 5000
  seed = 7
}

stream "playback" {
  description = "One event per player action."
  partitions  = 4
  key         = "user_id"
  schema = object({
    event_id    = string
    ts          = timestamp_ms
    user_id     = string
    country     = string
    device      = object({ type = string, os = string, version = string })
    title_id    = string
    action      = string
    position_ms = int
    duration_ms = int
    session     = string
    tags        = list(string)
    payload     = string
  })
}

stream "tv_plays" {
  description = "Plays on television sets, with how far the viewer is."
  partitions  = 4
  key         = "user_id"
}

sink "file" "plays" {
  path = "out/plays.ndjson"
}

route "ingest" {
  from = source.players
  to   = stream.playback
}

route "tv_plays" {
  from   = stream.playback
  filter = "country in ['BR', 'US'] && device.type == 'tv' && position_ms > 1000"
  project = {
    user_id = "user_id"
    ts      = "ts"
    title   = "title_id"
    os      = "device.os ?? 'unknown'"
    pct     = "position_ms / duration_ms * 100"
  }
  to = stream.tv_plays
}

route "archive" {
  from = stream.tv_plays
  to   = sink.plays
}
