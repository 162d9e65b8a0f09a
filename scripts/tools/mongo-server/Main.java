import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import io.netty.channel.Channel;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.h2.mvstore.MVStore;

/**
 * A server that speaks MongoDB's wire protocol, for tests: its documents are in one file, and what it has acknowledged is
 * there after SIGKILL.
 *
 * Usage: Main FILE PORT [CERTIFICATE KEY]; a FILE of `-` is memory. Says `ready` on stdout. Lines on stdin make it ill: `delay MS` (each command
 * takes that long), `fail CODE` (each command but the greeting is refused with that code), `well`. Ends with its stdin.
 */
public final class Main {
    /** A version whose wire number the Rust driver takes; no newer command is used because of it. */
    private enum Version implements MongoVersion {
        ONE;

        @Override
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 13;
        }
    }

    private static final Set<String> GREETINGS = Set.of("hello", "ismaster", "ping", "buildinfo", "endsessions");
    private static final Set<String> READS = Set.of("find", "count", "distinct", "listindexes", "listcollections", "serverstatus");

    private static volatile long delay;
    private static volatile int failure;

    private static final class Backend extends H2Backend {
        private final MVStore file;
        // The library's collections are for one at a time; several readers are enough like a real server.
        private final ReadWriteLock turns = new ReentrantReadWriteLock();

        Backend(MVStore file) {
            super(file);
            this.file = file;
        }

        @Override
        public Document handleCommand(Channel channel, String database, String command, Document query) {
            String name = command.toLowerCase();
            if (GREETINGS.contains(name)) {
                return super.handleCommand(channel, database, command, query);
            }
            if (delay > 0) {
                try {
                    Thread.sleep(delay);
                } catch (InterruptedException interrupted) {
                    Thread.currentThread().interrupt();
                }
            }
            if (failure > 0) {
                throw new MongoServerError(failure, "Told", "told to fail");
            }
            boolean reads = READS.contains(name);
            Lock turn = reads ? turns.readLock() : turns.writeLock();
            turn.lock();
            try {
                Document answer = super.handleCommand(channel, database, command, query);
                if (!reads && !name.equals("getmore") && !name.equals("killcursors")) {
                    file.commit();
                }
                // Answers hold the stored documents themselves, and are written after the turn is over.
                return answer == null ? null : answer.cloneDeeply();
            } finally {
                turn.unlock();
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        String name = arguments[0].equals("-") ? null : arguments[0];
        MVStore file = new MVStore.Builder().fileName(name).autoCommitDisabled().open();
        file.setRetentionTime(0);
        Backend backend = new Backend(file);
        backend.version(Version.ONE);
        MongoServer server = new MongoServer(backend);
        if (arguments.length > 2) {
            server.enableSsl(key(arguments[3]), null, certificate(arguments[2]));
        }
        server.bind("127.0.0.1", Integer.parseInt(arguments[1]));
        System.out.println("ready");
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            String[] words = line.trim().split(" ");
            switch (words[0]) {
                case "delay" -> delay = Long.parseLong(words[1]);
                case "fail" -> failure = Integer.parseInt(words[1]);
                case "well" -> {
                    delay = 0;
                    failure = 0;
                }
                default -> System.err.println("not understood: " + line);
            }
            System.out.println("done");
        }
        file.close();
        System.exit(0);
    }

    private static byte[] pem(String path, String label) throws Exception {
        String text = Files.readString(Path.of(path));
        String start = "-----BEGIN " + label + "-----";
        int from = text.indexOf(start) + start.length();
        return Base64.getMimeDecoder().decode(text.substring(from, text.indexOf("-----END", from)));
    }

    private static X509Certificate certificate(String path) throws Exception {
        byte[] bytes = pem(path, "CERTIFICATE");
        return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(bytes));
    }

    private static PrivateKey key(String path) throws Exception {
        PKCS8EncodedKeySpec spec = new PKCS8EncodedKeySpec(pem(path, "PRIVATE KEY"));
        try {
            return KeyFactory.getInstance("EC").generatePrivate(spec);
        } catch (java.security.spec.InvalidKeySpecException notThatKind) {
            return KeyFactory.getInstance("RSA").generatePrivate(spec);
        }
    }
}
