sink "file" "a" {
  ratio  = 2 # ERROR: must be between 0 and 1; this is 2
  quiet  = "true" # ERROR: Write it without quotes.
  max    = "1 MeB" # ERROR: is not a size
  mode   = "apend" # ERROR: Did you mean "append"?
  urls   = "http://x" # ERROR: Write it in brackets.
  labels = ["a"] # ERROR: takes a map of strings; this is a list
  rotate = { size = 1 } # ERROR: is a nested block; write rotate { … }
}

sink "file" "b" {
  max {} # ERROR: is an option, not a block
  rotate {}
  rotate {} # ERROR: may be written once
  mode = append # ERROR: Write it in quotes: mode = "append".
}

sink "file" "c" {
  quiet = true
  quiet {} # ERROR: is written as an option # ERROR: is an option, not a block
  rotate "x" {} # ERROR: has no name
}

source "file" "s" {
  every = 5 # ERROR: A number needs its unit
  rate  = "7" # ERROR: Write the number without quotes
  schema = "x" # ERROR: type
}

route "r" { # ERROR: The option "to" is required
  from = sink.a # ERROR: takes a reference to a stream or a source
  filter = 3 # ERROR: Write the expression in quotes.
  project = merge({}, {}) # ERROR: Write it out
  retry {
    initial = "10m"
    max     = "1 day" # ERROR: is not a duration
  }
}

route "q" {
  from = "source.s" # ERROR: without quotes
  to   = b # ERROR: Did you mean sink.b?
  key  = var.x # ERROR: Inside of the quotes var is known by name
}
