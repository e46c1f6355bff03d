// SPDX-License-Identifier: Apache-2.0
// What a PostgreSQL connection may say, before any server is asked.
#include "tests/owner/support.hpp"

using namespace sev;
using namespace sev::attest::owner;

TEST_CASE("store: a PostgreSQL connection with a password is refused, and says where passwords belong") {
    CHECK_THROWS_WITH_AS(open_postgresql_store("host=/nowhere password=x", "xen_sev", {}), doctest::Contains("has a password"), Error);
    CHECK_THROWS_WITH_AS(open_postgresql_store("host=/nowhere", "xen sev", {}), doctest::Contains("want 1 to 48 of a-z 0-9 _"), Error);
    CHECK_THROWS_AS(open_postgresql_store("host=/nowhere/at/all connect_timeout=2", "xen_sev", {}), Error);
}

TEST_CASE("store: a PostgreSQL server across a network is one whose certificate is verified, or none") {
    for (const char* given : {"host=db.example", "host=db.example sslmode=require", "host=db.example sslmode=verify-ca", "hostaddr=127.0.0.1",
                              "host=/run/postgresql,db.example", "host=/run/postgresql hostaddr=127.0.0.1", "host=@abstract", "host=localhost"}) {
        INFO(given);
        CHECK_THROWS_WITH_AS(open_postgresql_store(given, "xen_sev", {}), doctest::Contains("want verify-full"), Error);
    }
    CHECK_THROWS_WITH_AS(open_postgresql_store("service=db", "xen_sev", {}), doctest::Contains("names a service"), Error);
    for (const char* given : {"host=/nowhere connect_timeout=0", "host=/nowhere connect_timeout=-1", "host=/nowhere connect_timeout=61"})
        CHECK_THROWS_WITH_AS(open_postgresql_store(given, "xen_sev", {}), doctest::Contains("want 2 to 60 s"), Error);
}
