package kafka

import (
	"fmt"
	"strconv"
	"strings"
)

// OriginHeader is the name of the header that says where a record came from.
const OriginHeader = "ks-origin"

// Origin is where a record came from.
type Origin struct {
	Route     string
	TopicID   string // Identity of the source's positions
	Partition int32
	Offset    int64
}

// The header's value is TOPIC-ID PARTITION OFFSET ROUTE. The route is last
// since the key of an instance may hold a space. What is before and after the
// offset is the same for all records of a batch.

func appendBefore(dst []byte, topicID string, partition int32) []byte {
	if topicID == "" {
		dst = append(dst, '-')
	}
	dst = append(dst, topicID...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(partition), 10)
	return append(dst, ' ')
}

func appendAfter(dst []byte, route string) []byte {
	dst = append(dst, ' ')
	return append(dst, route...)
}

// ParseOrigin reads the value of the header ks-origin.
func ParseOrigin(value []byte) (Origin, error) {
	f := strings.SplitN(string(value), " ", 4)
	if len(f) != 4 {
		return Origin{}, fmt.Errorf("%q is not an origin", value)
	}
	p, err := strconv.ParseInt(f[1], 10, 32)
	if err != nil {
		return Origin{}, fmt.Errorf("%q is not an origin: %w", value, err)
	}
	at, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return Origin{}, fmt.Errorf("%q is not an origin: %w", value, err)
	}
	o := Origin{Route: f[3], TopicID: f[0], Partition: int32(p), Offset: at}
	if o.TopicID == "-" {
		o.TopicID = ""
	}
	return o, nil
}
