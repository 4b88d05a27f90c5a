sink "stdout" "other" {} # ERROR: There is no sink.other

sink "file" "out" {} # ERROR: is of kind "stdout"

sink "stdout" "out" {
  rotate = 1 # ERROR: write it as a block here too
  quiet {} # ERROR: write it as one here too
}
