stream "now" {}
sink "stdout" "out" {}

moved { # ERROR: There is no stream.gone
  from = stream.old
  to   = stream.gone
}

moved { # ERROR: a block keeps its type
  from = sink.old
  to   = stream.now
}

moved { # ERROR: is already its name
  from = sink.out
  to   = sink.out
}

moved { # ERROR: is declared, so it has not moved # ERROR: There is no sink.out2
  from = sink.out
  to   = sink.out2
}

moved {
  from = "sink.x" # ERROR: Write the address itself
  to   = sinc.x # ERROR: Did you mean "sink"?
}

removed { # ERROR: is declared. Remove
  from = stream.now
}

removed { # ERROR: "from" is required
  form    = stream.then # ERROR: Did you mean "from"?
  destroy = "yes" # ERROR: destroy is true or false
}

removed { # ERROR: Keep one of the two
  from = stream.old
}
