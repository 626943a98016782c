import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/** pgjdbc: bound parameters, server-side prepared statements, fetching in parts, cancel, and the metadata of tools. */
public class JdbcClient {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", "snowmelt");
        // Server-side prepared statements, and with them binary results, from the second time on.
        properties.setProperty("prepareThreshold", "2");
        String url = "jdbc:postgresql://" + arguments[0] + "/snowmelt";
        try (Connection c = DriverManager.getConnection(url, properties)) {
            answers(c);
            metadata(c);
            parts(c);
            cancel(c);
            refusal(c);
        }
    }

    static void answers(Connection c) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT count(*) FROM atomic.events")) {
            r.next();
            show("column", "\"" + r.getMetaData().getColumnName(1) + "\"");
            show("count", String.valueOf(r.getLong("count")));
        }
        String first = null;
        try (PreparedStatement s = c.prepareStatement(
                "SELECT event_id, domain_sessionidx, se_value, tr_total, br_cookies, collector_tstamp, refr_medium"
                + " FROM atomic.events WHERE _index >= ? ORDER BY event_id LIMIT 3")) {
            for (int round = 0; round < 4; round++) {
                s.setInt(1, 0);
                List<String> rows = new ArrayList<>();
                try (ResultSet r = s.executeQuery()) {
                    while (r.next()) {
                        first = first == null ? r.getString(1) : first;
                        Timestamp at = r.getTimestamp(6, java.util.Calendar.getInstance(java.util.TimeZone.getTimeZone("UTC")));
                        rows.add("[\"" + r.getString(1) + "\"," + r.getObject(2) + "," + r.getObject(3) + ","
                            + r.getBigDecimal(4) + "," + r.getObject(5) + ",\"" + at.toInstant() + "\"," + r.getString(7) + "]");
                    }
                }
                show("types", "[" + String.join(",", rows) + "]");
            }
        }
        try (PreparedStatement s = c.prepareStatement(
                "SELECT count(*) FROM atomic.events WHERE event_id = ? AND collector_tstamp < ? AND _index < ?")) {
            for (int round = 0; round < 4; round++) {
                s.setString(1, first);
                s.setTimestamp(2, Timestamp.valueOf("2100-01-01 00:00:00"));
                s.setLong(3, 1);
                show("bound", number(s));
            }
        }
        try (PreparedStatement s = c.prepareStatement("SELECT count(*) FROM atomic.events WHERE event_id = ANY(?)")) {
            s.setArray(1, c.createArrayOf("text", new String[] {first, "none"}));
            show("any", number(s));
        }
        try (PreparedStatement s = c.prepareStatement("SELECT count(*) FROM atomic.events WHERE refr_medium IS NOT DISTINCT FROM ?")) {
            s.setString(1, null);
            show("null", number(s));
        }
    }

    static String number(PreparedStatement s) throws SQLException {
        try (ResultSet r = s.executeQuery()) {
            r.next();
            return String.valueOf(r.getLong(1));
        }
    }

    /** What DBeaver, Metabase and the like ask. */
    static void metadata(Connection c) throws SQLException {
        DatabaseMetaData m = c.getMetaData();
        show("product", "[\"" + m.getDatabaseProductName() + "\"," + m.getDatabaseMajorVersion() + "]");
        show("schemas", names(m.getSchemas(), "TABLE_SCHEM"));
        show("catalogs", names(m.getCatalogs(), "TABLE_CAT"));
        show("tables", names(m.getTables(null, "atomic", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME"));
        show("views", names(m.getTables(null, "lambda", "%", new String[] {"VIEW"}), "TABLE_NAME"));
        String columns = names(m.getColumns(null, "atomic", "events", "%"), "COLUMN_NAME");
        show("columns", String.valueOf(columns.split(",").length));
        show("types-of-columns", names(m.getColumns(null, "atomic", "events", "%tstamp"), "TYPE_NAME"));
        names(m.getPrimaryKeys(null, "atomic", "events"), "COLUMN_NAME");
        names(m.getTypeInfo(), "TYPE_NAME");
    }

    static String names(ResultSet r, String column) throws SQLException {
        List<String> names = new ArrayList<>();
        try (r) {
            while (r.next()) {
                names.add("\"" + r.getString(column) + "\"");
            }
        }
        return "[" + String.join(",", names) + "]";
    }

    /** A result in parts, which JDBC wants a transaction for. */
    static void parts(Connection c) throws SQLException {
        c.setAutoCommit(false);
        int rows = 0;
        try (Statement s = c.createStatement()) {
            s.setFetchSize(7);
            try (ResultSet r = s.executeQuery("SELECT event_id FROM atomic.events")) {
                while (r.next()) {
                    rows++;
                }
            }
        }
        c.commit();
        c.setAutoCommit(true);
        show("parts", String.valueOf(rows));
    }

    static void cancel(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    while (!Thread.interrupted()) {
                        Thread.sleep(200);
                        s.cancel();
                    }
                } catch (InterruptedException | SQLException ended) {
                    // The statement has ended.
                }
            });
            canceller.start();
            try {
                s.executeQuery("SELECT count(*) FROM generate_series(1, 1000000000000) a(x) WHERE x % 7 = 8");
                throw new IllegalStateException("an endless statement ended");
            } catch (SQLException cancelled) {
                expect(cancelled, "57014");
            } finally {
                canceller.interrupt();
                canceller.join();
            }
        }
    }

    static void refusal(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.executeUpdate("INSERT INTO atomic.events VALUES (1)");
            throw new IllegalStateException("an INSERT was let through");
        } catch (SQLException refused) {
            expect(refused, "42501");
        }
    }

    static void expect(SQLException error, String state) throws SQLException {
        if (!state.equals(error.getSQLState())) {
            throw error;
        }
    }

    static void show(String name, String json) {
        System.out.println("[\"" + name + "\"," + json + "]");
    }
}
