package warren.compat;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.regex.Pattern;

/** The client suite of tests/compat/README.md for the RabbitMQ Java client. */
public final class Suite {
    interface Check {
        void run(T t) throws Exception;
    }

    private Suite() {
    }

    private static String run(T t, Check check) {
        String why = null;
        try {
            check.run(t);
        } catch (T.Failed error) {
            why = error.getMessage();
        } catch (Exception error) {
            why = error + (error.getCause() == null ? "" : " " + error.getCause());
        }
        try {
            t.clean();
        } catch (Exception error) {
            why = why == null ? "cleaning up: " + error : why;
        }
        return why == null ? null : why.replaceAll("\\s+", " ");
    }

    public static void main(String[] arguments) {
        Map<String, String> options = new LinkedHashMap<>(Map.of("--queue-type", "classic", "--check", "*"));
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            options.put(arguments[i], arguments[i + 1]);
        }
        if (!options.containsKey("--uris")) {
            System.err.println("usage: Suite --uris URI,... [--queue-type classic|quorum] [--check PATTERN]");
            System.exit(2);
        }
        List<String> uris = Arrays.asList(options.get("--uris").split(","));
        Pattern pattern = Pattern.compile(Pattern.quote(options.get("--check")).replace("*", "\\E.*\\Q"));
        List<String> leftOut = Arrays.asList(System.getenv().getOrDefault("COMPAT_EXCEPT", "").split(" "));
        Predicate<String> wanted = name -> pattern.matcher(name).matches() && !leftOut.contains(name);
        Map<String, Check> checks = new LinkedHashMap<>();
        Declaring.add(checks);
        Messages.add(checks);
        Consuming.add(checks);
        System.out.println("1.." + checks.keySet().stream().filter(wanted).count());
        int number = 0;
        int failures = 0;
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            number++;
            if (!wanted.test(check.getKey())) {
                continue;
            }
            String why = run(new T(uris, options.get("--queue-type"), number), check.getValue());
            failures += why == null ? 0 : 1;
            System.out.println(why == null ? "ok " + check.getKey() : "not ok " + check.getKey() + ": " + why);
        }
        System.exit(failures == 0 ? 0 : 1);
    }
}
