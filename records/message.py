"""The message ``tf.train.Example``, built from a descriptor: TensorFlow is not needed."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _example_class() -> type:
    """The message ``tf.train.Example``, in a descriptor pool of its own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="records/example.proto", package="tensorflow", syntax="proto3"
    )

    def message(name: str, *fields: tuple) -> Any:
        new = file.message_type.add(name=name)
        for number, (field_name, kind, repeated, type_name) in enumerate(fields, start=1):
            new.field.add(
                name=field_name,
                number=number,
                type=kind,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type_name=type_name,
            )
        return new

    message("BytesList", ("value", field.TYPE_BYTES, True, None))
    message("FloatList", ("value", field.TYPE_FLOAT, True, None))
    message("Int64List", ("value", field.TYPE_INT64, True, None))
    feature = message(
        "Feature",
        ("bytes_list", field.TYPE_MESSAGE, False, ".tensorflow.BytesList"),
        ("float_list", field.TYPE_MESSAGE, False, ".tensorflow.FloatList"),
        ("int64_list", field.TYPE_MESSAGE, False, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    features = message(
        "Features", ("feature", field.TYPE_MESSAGE, True, ".tensorflow.Features.FeatureEntry")
    )
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=".tensorflow.Feature",
    )
    message("Example", ("features", field.TYPE_MESSAGE, False, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()
