package org.elasticsearch.node; // for NodeConstruction, which is package-private

import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.bootstrap.BootstrapInfo;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.http.HttpServerTransport;
import org.elasticsearch.plugins.PluginsLoader;
import org.elasticsearch.transport.TransportService;

/**
 * Runs one Elasticsearch node from jars on a flat class path: HOME DATA
 * [key=value]... The distribution's own main class expects Java modules, native
 * libraries, an agent and a user other than root.
 */
public final class EsServer {
    public static void main(String[] args) {
        try {
            run(args);
        } catch (Throwable t) {
            t.printStackTrace();
            System.exit(1);
        }
    }

    private static void run(String[] args) throws Exception {
        Path home = Path.of(args[0]), data = Path.of(args[1]);
        Settings.Builder settings = Settings.builder()
            .put("path.home", home.toString())
            .put("path.data", data.resolve("data").toString())
            .put("path.logs", data.resolve("logs").toString())
            .put("cluster.name", "testenv")
            .put("network.host", "127.0.0.1")
            // Test machines are often nearly full, which would block writes.
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .put("action.destructive_requires_name", false);
        for (int i = 2; i < args.length; i++) {
            String[] kv = args[i].split("=", 2);
            settings.put(kv[0], kv[1]);
        }
        LogConfigurator.configureESLogging();
        BootstrapInfo.init();
        Environment env = InternalSettingsPreparer.prepareEnvironment(
            settings.build(), Map.of(), data.resolve("config"), () -> "node-1");
        PluginsLoader plugins = PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(env.modulesDir()), Set.of(), Map.of(), false);
        Node node = new Node(NodeConstruction.prepareConstruction(env, plugins, new NodeServiceProvider(), true));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
                node.awaitClose(10, TimeUnit.SECONDS);
            } catch (Exception e) {
                e.printStackTrace();
            }
        }));
        node.start();
        System.out.println("READY " + node.injector().getInstance(HttpServerTransport.class)
            .boundAddress().publishAddress().getPort() + " " + node.injector().getInstance(TransportService.class)
            .boundAddress().publishAddress().getPort());
        Thread.currentThread().join();
    }
}
