"""Reads what others wrote, and prints it as JSON, one line for each argument.

    read.py duckdb  SQL...    {"columns": [[name, type]...], "rows": [[...]...]}
    read.py spark   SQL...    the same, through the Hive Metastore
    read.py rows    PATH...   the same by PyArrow: a file, or a folder with dt=.../ below it
    read.py files   PATH...   what PyArrow finds in the footers: [{path, rows, row_groups, columns}...]

A path is local or s3://BUCKET/KEY, for PyArrow also gs://BUCKET/KEY and
azblob://CONTAINER/KEY. The servers are those of the variables KEYSTONE_TEST_METASTORE,
KEYSTONE_TEST_WAREHOUSE, KEYSTONE_TEST_S3, KEYSTONE_TEST_GCS and KEYSTONE_TEST_AZURE.
Times are in UTC; decimals, bytes (hexadecimal), NaN and infinities are strings.
Spark reads local paths alone.
"""
import datetime
import decimal
import json
import math
import os
import sys
import tempfile

env = os.environ.get


def plain(v):
    if isinstance(v, datetime.datetime):
        if v.tzinfo is not None:
            v = v.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return v.isoformat() + "Z"
    if isinstance(v, (datetime.date, datetime.time)):
        return v.isoformat()
    if isinstance(v, decimal.Decimal):
        return format(v, "f")
    if isinstance(v, float) and not math.isfinite(v):
        return str(v)
    if isinstance(v, (bytes, bytearray, memoryview)):
        return bytes(v).hex()
    if hasattr(v, "asDict"):
        v = v.asDict()
    if isinstance(v, dict):
        return {str(k): plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    if v is None or isinstance(v, (bool, int, float, str)):
        return v
    return str(v)


def out(v):
    print(json.dumps(v, allow_nan=False), flush=True)


def table(columns, rows):
    out({"columns": columns, "rows": [[plain(v) for v in r] for r in rows]})


def host():
    return env("KEYSTONE_TEST_S3").split("://", 1)[1]


def duckdb(args):
    import duckdb

    con = duckdb.connect(config={"memory_limit": "512MB", "threads": 2, "autoinstall_known_extensions": False})
    con.execute("SET TimeZone = 'UTC'")
    if env("KEYSTONE_TEST_S3"):
        import duckdb_extension_httpfs

        [package] = duckdb_extension_httpfs.__path__
        con.load_extension(f"{package}/extensions/v{duckdb.__version__}/httpfs.duckdb_extension")
        con.execute(
            "CREATE SECRET (TYPE s3, ENDPOINT ?, KEY_ID ?, SECRET ?, REGION ?, URL_STYLE 'path', USE_SSL false)"
            .replace("?", "'{}'").format(host(), env("KEYSTONE_TEST_S3_KEY"), env("KEYSTONE_TEST_S3_SECRET"),
                                         env("KEYSTONE_TEST_S3_REGION")))
    for sql in args:
        cur = con.execute(sql)
        table([[d[0], str(d[1])] for d in cur.description], cur.fetchall())


def spark(args):
    if not env("KEYSTONE_TEST_METASTORE"):
        sys.exit("read.py: spark: KEYSTONE_TEST_METASTORE is not set")
    from pyspark.sql import SparkSession

    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["TZ"] = "UTC"
    with tempfile.TemporaryDirectory() as tmp:
        conf = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "640m",
            "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.timezone=UTC",
            "spark.local.dir": tmp,
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.warehouse.dir": env("KEYSTONE_TEST_WAREHOUSE") or tmp,
            "spark.hadoop.hive.metastore.uris": env("KEYSTONE_TEST_METASTORE"),
        }
        builder = SparkSession.builder.master("local[1]").enableHiveSupport()
        for k, v in conf.items():
            builder = builder.config(k, v)
        session = builder.getOrCreate()
        try:
            session.sparkContext.setLogLevel("ERROR")
            for sql in args:
                frame = session.sql(sql)
                table([[f.name, f.dataType.simpleString()] for f in frame.schema.fields], frame.collect())
        finally:
            session.stop()


def opened(path):
    """The file system of a path, and the path in it."""
    from pyarrow import fs

    scheme, separator, name = path.partition("://")
    if not separator:
        return fs.LocalFileSystem(), path
    if scheme == "gs":
        return fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=env("KEYSTONE_TEST_GCS")), name
    if scheme == "azblob":
        server = env("KEYSTONE_TEST_AZURE")
        return fs.AzureFileSystem(
            account_name=env("KEYSTONE_TEST_AZURE_ACCOUNT"), account_key=env("KEYSTONE_TEST_AZURE_KEY"),
            blob_storage_authority=server, blob_storage_scheme="http",
            dfs_storage_authority=server, dfs_storage_scheme="http"), name
    return fs.S3FileSystem(
        access_key=env("KEYSTONE_TEST_S3_KEY"), secret_key=env("KEYSTONE_TEST_S3_SECRET"),
        region=env("KEYSTONE_TEST_S3_REGION"), scheme="http", endpoint_override=host()), name


def dataset(path):
    import pyarrow.dataset as ds

    where, name = opened(path)
    return where, ds.dataset(name, filesystem=where, format="parquet",
                             partitioning=ds.HivePartitioning.discover(infer_dictionary=False))


def rows(args):
    for path in args:
        t = dataset(path)[1].to_table()
        table([[f.name, str(f.type)] for f in t.schema], zip(*(c.to_pylist() for c in t.columns)))


def files(args):
    import pyarrow.parquet as pq

    for path in args:
        where, found = dataset(path)
        out([describe(name, pq.ParquetFile(name, filesystem=where)) for name in sorted(found.files)])


def describe(name, file):
    meta = file.metadata
    return {"path": name, "rows": meta.num_rows, "created_by": meta.created_by,
            "schema": [[f.name, str(f.type)] for f in file.schema_arrow],
            "row_groups": [group(meta.row_group(i)) for i in range(meta.num_row_groups)]}


def group(g):
    columns = {}
    for i in range(g.num_columns):
        c = g.column(i)
        s = c.statistics
        columns[c.path_in_schema] = {
            "compression": c.compression, "encodings": list(c.encodings), "bytes": c.total_compressed_size,
            "dictionary": c.has_dictionary_page, "column_index": c.has_column_index, "offset_index": c.has_offset_index,
            "min": plain(s.min) if s is not None and s.has_min_max else None,
            "max": plain(s.max) if s is not None and s.has_min_max else None,
            "nulls": s.null_count if s is not None and s.has_null_count else None,
        }
    return {"rows": g.num_rows, "bytes": g.total_byte_size, "columns": columns}


if __name__ == "__main__":
    readers = {"duckdb": duckdb, "spark": spark, "rows": rows, "files": files}
    if len(sys.argv) < 3 or sys.argv[1] not in readers:
        sys.exit(__doc__)
    readers[sys.argv[1]](sys.argv[2:])
