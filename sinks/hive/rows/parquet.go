package rows

import (
	"fmt"

	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/schema"
)

// fileSchema gives the tree in Parquet's form.
func fileSchema(root *node) (*schema.Schema, error) {
	fields, err := fileFields(root)
	if err != nil {
		return nil, err
	}
	group, err := schema.NewGroupNode("event", parquet.Repetitions.Required, fields, -1)
	if err != nil {
		return nil, fmt.Errorf("schema of the file: %w", err)
	}
	return schema.NewSchema(group), nil
}

func fileFields(n *node) (schema.FieldList, error) {
	list := make(schema.FieldList, 0, len(n.fields))
	for _, f := range n.fields {
		c, err := fileNode(f)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.name, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func fileNode(n *node) (schema.Node, error) {
	repetition := parquet.Repetitions.Required
	if n.optional {
		repetition = parquet.Repetitions.Optional
	}
	switch n.shape {
	case objectShape:
		fields, err := fileFields(n)
		if err != nil {
			return nil, err
		}
		return schema.NewGroupNode(n.name, repetition, fields, -1)
	case listShape:
		elem, err := fileNode(n.elem)
		if err != nil {
			return nil, err
		}
		return schema.ListOfWithName(n.name, elem, repetition, -1)
	case mapShape:
		key, err := fileNode(n.key)
		if err != nil {
			return nil, err
		}
		value, err := fileNode(n.elem)
		if err != nil {
			return nil, err
		}
		return schema.MapOf(n.name, key, value, repetition, -1)
	}
	logical, physical, length := stored(n)
	return schema.NewPrimitiveNodeLogical(n.name, repetition, logical, physical, length, -1)
}

// stored gives the logical and physical type of a leaf.
func stored(n *node) (schema.LogicalType, parquet.Type, int) {
	switch n.form {
	case formBool:
		return schema.NoLogicalType{}, parquet.Types.Boolean, -1
	case formInt:
		return schema.NoLogicalType{}, parquet.Types.Int64, -1
	case formFloat:
		return schema.NoLogicalType{}, parquet.Types.Double, -1
	case formDecimal:
		return schema.NewDecimalLogicalType(int32(n.precision), int32(n.scale)), parquet.Types.FixedLenByteArray, n.width()
	case formTimestamp:
		return schema.NewTimestampLogicalType(true, schema.TimeUnitMicros), parquet.Types.Int64, -1
	case formDate:
		return schema.DateLogicalType{}, parquet.Types.Int32, -1
	case formBytes:
		return schema.NoLogicalType{}, parquet.Types.ByteArray, -1
	default: // formString, formJSON: engines read a text that is marked as JSON as bytes
		return schema.StringLogicalType{}, parquet.Types.ByteArray, -1
	}
}
