package org.apache.hadoop.hive.metastore;

import java.net.URI;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.apache.hadoop.hive.metastore.api.AlreadyExistsException;
import org.apache.hadoop.hive.metastore.api.Database;
import org.apache.hadoop.hive.metastore.api.FieldSchema;
import org.apache.hadoop.hive.metastore.api.Partition;
import org.apache.hadoop.hive.metastore.api.SerDeInfo;
import org.apache.hadoop.hive.metastore.api.StorageDescriptor;
import org.apache.hadoop.hive.metastore.api.Table;
import org.apache.hadoop.hive.metastore.api.ThriftHiveMetastore;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.transport.TSocket;

/** Registers a table with a partition, or wants to find it: ADDRESS create|read LOCATION. */
public final class HmsCheck {
    public static void main(String[] args) throws Exception {
        URI addr = URI.create(args[0]);
        try (TSocket socket = new TSocket(addr.getHost(), addr.getPort(), 60_000)) {
            socket.open();
            ThriftHiveMetastore.Client c = new ThriftHiveMetastore.Client(new TBinaryProtocol(socket));
            if (args[1].equals("create")) {
                create(c, args[2]);
            }
            Table t = c.get_table("check_db", "events");
            Partition p = c.get_partition("check_db", "events", Arrays.asList("2024-01-02"));
            want(t.getTableType().equals("EXTERNAL_TABLE"), "table " + t);
            want(t.getSd().getCols().size() == 2, "columns " + t.getSd().getCols());
            want(p.getSd().getLocation().endsWith("/events/dt=2024-01-02"), "partition " + p);
            want(c.get_partition_names("check_db", "events", (short) -1).size() == 1, "partition names");
            want(c.get_partitions_by_filter("check_db", "events", "dt >= \"2024-01-01\"", (short) -1).size() == 1, "filter");
        }
        System.exit(0);
    }

    private static void create(ThriftHiveMetastore.Client c, String location) throws Exception {
        c.create_database(new Database("check_db", "", location, new HashMap<>()));
        StorageDescriptor sd = new StorageDescriptor();
        sd.setCols(Arrays.asList(new FieldSchema("id", "bigint", ""), new FieldSchema("tags", "map<string,string>", "")));
        sd.setLocation(location + "/events");
        sd.setInputFormat("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat");
        sd.setOutputFormat("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat");
        sd.setSerdeInfo(new SerDeInfo("", "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe", new HashMap<>()));
        Table t = new Table();
        t.setDbName("check_db");
        t.setTableName("events");
        t.setTableType("EXTERNAL_TABLE");
        t.setParameters(new HashMap<>(Map.of("EXTERNAL", "TRUE")));
        t.setSd(sd);
        t.setPartitionKeys(Arrays.asList(new FieldSchema("dt", "string", "")));
        c.create_table(t);
        StorageDescriptor psd = sd.deepCopy();
        psd.setLocation(location + "/events/dt=2024-01-02");
        Partition p = new Partition(Arrays.asList("2024-01-02"), "check_db", "events", 0, 0, psd, new HashMap<>());
        c.add_partition(p);
        try {
            c.add_partition(p);
            want(false, "the same partition twice is accepted");
        } catch (AlreadyExistsException expected) {
            // As it should be: whoever registers again has to know it.
        }
    }

    private static void want(boolean ok, String what) {
        if (!ok) {
            throw new AssertionError(what);
        }
    }
}
