"""Writes a partitioned table, and wants every reader to find the same in it."""
import datetime
import decimal
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import read

DAYS = {"2024-01-02": [1, 2, 3], "2024-01-03": [4, 5]}


def write(root, where=None):
    for day, ids in DAYS.items():
        if where is None:
            os.makedirs(f"{root}/dt={day}")
        pq.write_table(pa.table({
            "id": pa.array(ids, pa.int64()),
            "price": pa.array([decimal.Decimal(i) / 4 for i in ids], pa.decimal128(10, 2)),
            "at": pa.array([datetime.datetime(2024, 1, 2, 3, 4, 5, i) for i in ids], pa.timestamp("us", "UTC")),
            "tags": pa.array([[("k", str(i))] for i in ids], pa.map_(pa.string(), pa.string())),
        }), f"{root}/dt={day}/part-0.parquet", filesystem=where, compression="zstd")


def ask(*args):
    done = subprocess.run([sys.executable, read.__file__, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{args}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def want(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got}, want {wanted}")


all_rows = [[i, f"{i / 4:.2f}", f"2024-01-02T03:04:05.{i:06}Z", day] for day, ids in DAYS.items() for i in ids]
bucket, warehouse = os.environ["KEYSTONE_TEST_S3_BUCKET"], os.environ["KEYSTONE_TEST_WAREHOUSE"]
write(f"{warehouse}/events")
write(f"{bucket}/events", read.opened("s3://")[0])

for root in (f"{warehouse}/events", f"s3://{bucket}/events"):
    sql = f"""SELECT id, price, "at", CAST(dt AS VARCHAR) FROM read_parquet('{root}/*/*.parquet', hive_partitioning = true) ORDER BY id"""
    want(f"duckdb {root}", ask("duckdb", sql)[0]["rows"], all_rows)
    [rows] = ask("rows", root)
    names = [c[0] for c in rows["columns"]]
    pick = [names.index(n) for n in ("id", "price", "at", "dt")]
    want(f"pyarrow {root}", sorted([r[i] for i in pick] for r in rows["rows"]), all_rows)
    [files] = ask("files", root)
    want(f"files {root}", [(f["rows"], f["row_groups"][0]["columns"]["id"]["max"]) for f in files], [(3, 3), (2, 5)])
    want(f"compression {root}", files[0]["row_groups"][0]["columns"]["id"]["compression"], "ZSTD")

*_, rows, pruned, parts = ask(
    "spark",
    "CREATE DATABASE readers",
    "CREATE EXTERNAL TABLE readers.events (id bigint, price decimal(10,2), at timestamp, tags map<string,string>) "
    f"PARTITIONED BY (dt string) STORED AS parquet LOCATION '{warehouse}/events'",
    "MSCK REPAIR TABLE readers.events",
    "SELECT id, price, at, dt FROM readers.events ORDER BY id",
    "SELECT count(*), max(tags['k']) FROM readers.events WHERE dt > '2024-01-02'",
    "SHOW PARTITIONS readers.events")
want("spark", rows["rows"], all_rows)
want("spark, one partition", pruned["rows"], [[2, "5"]])
want("partitions", parts["rows"], [[f"dt={day}"] for day in DAYS])
import duckdb  # noqa: E402 (for its version)
import pyspark  # noqa: E402

print(f"duckdb {duckdb.__version__}, pyarrow {pa.__version__}, spark {pyspark.__version__}: ok")
