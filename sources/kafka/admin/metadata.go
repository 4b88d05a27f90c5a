package admin

import "strings"

const metadataPrefix = "keystone topic="

// Metadata is stored with every committed offset: the identity of the topic
// that the offset counts in. A topic that was deleted and created again has
// another identity, and its offsets mean other records.
func Metadata(topicID string) string {
	if topicID == "" {
		return ""
	}
	return metadataPrefix + topicID
}

// ParseMetadata gives the topic's identity, or "" where another tool committed.
func ParseMetadata(s string) string {
	id, ok := strings.CutPrefix(s, metadataPrefix)
	if !ok {
		return ""
	}
	return id
}
