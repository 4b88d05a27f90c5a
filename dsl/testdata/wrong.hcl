route "all_errors" {
  input  = object({ user_id = string, n = int })
  filter = "n >> 1" # ERROR: KS2002 no operator > >
  project = {
    user = "usr_id"          # ERROR: KS2010 user_id
    pct  = "n / 'x'"         # ERROR: KS2020 takes numbers
    kind = tv                # ERROR: KS2042 "'tv'"
    a.b  = "n"               # ERROR: KS2040 in quotes
    "a.b" = "n"              # ERROR: KS2040 a = { b
    user = "n"               # ERROR: KS2041 "user" is there already
    nul  = null              # ERROR: KS2042 "nil"
    list = ["n"]             # ERROR: KS2042 in quotes
    tmpl = "${n}"            # ERROR: KS2005 template
    call = upper("n")        # ERROR: KS2042 HCL does not compute
    big  = 9223372036854775808 # ERROR: KS2042 64 bits
    (n)  = "n"               # ERROR: KS2040 fixed
    "x${n}" = "n"            # ERROR: KS2040 fixed
    ref  = each.key          # ERROR: KS2042 "each.key"
    o    = { a = "zz", a = "n" } # ERROR: KS2041 "a" is there # ERROR: KS2010 zz
    ""   = "n"               # ERROR: KS2040 empty
  }
}

route "projected_away" {
  input   = object({ user_id = string, country = string, ts = timestamp_ms })
  project = { user = "user_id" }
  key     = "country"               # ERROR: KS2013 Add country = "country"
  headers = { c = "user_id" }       # ERROR: KS2013 user_id
  index   = "x-{ts:2006}-{user}-{usr}" # ERROR: KS2013 ts = "ts" # ERROR: KS2010 "user"
  id      = "user + 1"              # ERROR: KS2020 string(1)
}

route "projected_away_any" {
  input   = any
  project = { user = "user_id" }
  key     = "country" # ERROR: KS2013 Add country
}

route "dropped" {
  input = any
  drop  = ["a", "o.x", "1 + 2", "l[0]", "meta.key"] # ERROR: KS2044 paths # ERROR: KS2044 paths # ERROR: KS2044 paths
  set   = { a = "1", "o.x.y" = "2" } # ERROR: KS2041 drop removes "a" # ERROR: KS2041 drop removes "o.x"
  key   = "b"
}

route "dropped_key" {
  input = any
  drop  = ["a", "o.x"]
  key   = "a + o.x.y" # ERROR: KS2013 drop removes a # ERROR: KS2013 drop removes o.x
}

route "unknown_drop" {
  input = object({ a = string, s = object({ x = int }) })
  drop  = ["b", "s.y"] # ERROR: KS2010 "b" # ERROR: KS2010 "y"
}

route "both" {
  input   = any
  project = { a = "a" }
  set     = { b = "b" } # ERROR: KS2043 nothing to change
}

route "set_paths" {
  input = object({ s = string })
  set   = { "s.x" = "1", "a" = "1", "a.b" = "2", ".c" = "1", "d..e" = "1" } # ERROR: KS2044 s is string # ERROR: KS2041 contradicts # ERROR: KS2040 no path # ERROR: KS2040 no path
}

route "raw_changes" {
  input   = any
  format  = "raw"
  filter  = "a == 1"                # ERROR: KS2016 only meta
  project = { a = "meta.key" }      # ERROR: KS2045 project
}

route "none" {
  input  = any
  decode = "none"
  filter = "a == 1" # ERROR: KS2016 only meta
  set    = { a = "1" } # ERROR: KS2045 set
}

route "exploding" {
  input   = object({ s = string, l = list(int) })
  explode = "s" # ERROR: KS2020 must be a list
}

route "exploding_computed" {
  input   = object({ s = string, l = list(int) })
  explode = "filter(l, # > 1)" # ERROR: KS2044 takes the path
}

route "keys" {
  input   = object({ l = list(int), o = object({ x = int }) })
  key     = "l" # ERROR: KS2046 A key
  headers = { a = "o", b = { c = "1" }, "" = "1" } # ERROR: KS2046 A header # ERROR: KS2046 not an object # ERROR: KS2040 empty
}

route "not_bool" {
  input  = object({ n = int })
  filter = ["n", "n > 1", ""] # ERROR: KS2025 n != 0 # ERROR: KS2006 leave
}

route "types" {
  input = object({
    a = strng                # ERROR: KS2061 "string"
    b = list                 # ERROR: KS2060 list(string)
    c = list(int, int)       # ERROR: KS2060 one type
    d = decimal(0, 0)        # ERROR: KS2060 from 1 to 38
    e = decimal(5, 6)        # ERROR: KS2060 from 0 to its precision
    f = optional(optional(int)) # ERROR: KS2060 outermost
    g = "string"             # ERROR: KS2060 without quotes
    h = { x = int }          # ERROR: KS2060 object({
    i = number               # ERROR: KS2061 int or float
    a = int                  # ERROR: KS2060 there already
    j = map(lst(int))        # ERROR: KS2061 "list"
    k = string()             # ERROR: KS2060 takes nothing
    l = object({})
    m = decimal              # ERROR: KS2060 decimal(10, 2)
    n = sensitive()          # ERROR: KS2060 one type
    o = [int]                # ERROR: KS2060 list(type)
    p = stream.x.schema      # ERROR: KS2060 A type is a word
    q = object(int)          # ERROR: KS2060 in braces
  })
}

route "heredoc" {
  input  = object({ n = int })
  filter = <<-EOT
    n > 1 &&
      s != 'x'  # ERROR: KS2002 comments begin with //
  EOT
}

route "heredoc_name" {
  input  = object({ n = int })
  filter = <<-EOT
    n > 1 &&
      m != 'x'  // # ERROR: KS2010 "n"
  EOT
}
