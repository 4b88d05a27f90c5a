import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes a committed and an aborted transaction, or wants to read the committed one: BROKERS write|read. */
public final class KafkaCheck {
    public static void main(String[] args) throws Exception {
        Map<String, Object> brokers = Map.of("bootstrap.servers", args[0]);
        if (args[1].equals("write")) {
            try (Admin admin = Admin.create(brokers)) {
                admin.createTopics(List.of(new NewTopic("check", Optional.of(1), Optional.empty()))).all().get();
            }
            write(args[0]);
        }
        List<String> got = new ArrayList<>();
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "isolation.level", "read_committed");
        TopicPartition part = new TopicPartition("check", 0);
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(List.of(part));
            consumer.seekToBeginning(List.of(part));
            long end = consumer.endOffsets(List.of(part)).get(part);
            while (consumer.position(part) < end) {
                consumer.poll(Duration.ofSeconds(1)).forEach(r -> got.add(r.value()));
            }
        }
        if (!got.equals(List.of("a", "b", "c"))) {
            throw new AssertionError("read " + got + ", want a, b, c");
        }
    }

    private static void write(String brokers) {
        Map<String, Object> config = Map.of("bootstrap.servers", brokers, "transactional.id", "check");
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            producer.beginTransaction();
            List.of("a", "b", "c").forEach(v -> producer.send(new ProducerRecord<>("check", v)));
            producer.commitTransaction();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>("check", "aborted"));
            producer.flush();
            producer.abortTransaction();
        }
    }
}
