streem "x" {} # ERROR: Did you mean "stream"?

stream "plays" {
  partition = 3 # ERROR: Did you mean "partitions"?
}

alert "j" {} # ERROR: no "alert" blocks

sink "stdot" "out" {} # ERROR: Did you mean "stdout"?

sink "stdout" "screen" {}

route "r" {
  from = stream.play # ERROR: Did you mean "plays"?
  to   = sink.screen
  batch {
    byte = 3 # ERROR: Did you mean "bytes"?
  }
  on_error = drop # ERROR: Write it in quotes
}
