// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include <sqlite3.h>
#include <sys/stat.h>

#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::Journal;
using daemon::Record;
using daemon::State;

namespace {

Record some_record(const std::string& name) {
    Record out;
    out.request = Daemon::request(name);
    out.identity = {{"domain", name}};
    out.created = out.updated = attest::parse_time("2026-01-02T03:04:05Z", "time");
    out.asid = psp::Asid{3};
    out.handle = psp::GuestHandle{0xFFFF'FFFF};
    out.session = filled<16>(7);
    out.verdict = json::Value{{"trusted", true}};
    out.steps = {{.at = out.created, .step = "LAUNCH_START", .detail = "a \"quoted\" detail"}};
    out.level = 1;
    out.emulated = true;
    out.reason = "because";
    return out;
}

} // namespace

TEST_CASE("journal: what is saved is there after the next opening, all of it") {
    TemporaryDirectory directory;
    Record record = some_record("one");
    {
        Journal journal{directory.path()};
        record.id = journal.add(record);
        record.state = State::judging;
        journal.save(record);
        CHECK(journal.use_session(filled<16>(1), record.id));
        CHECK_FALSE(journal.use_session(filled<16>(1), record.id));
        journal.add_stuck({.handle = psp::GuestHandle{9}, .asid = psp::Asid{4}, .reason = "r"});
    }
    Journal journal{directory.path()};
    const Record found = journal.find(record.id).value();
    CHECK(found.to_json(true) == record.to_json(true));
    CHECK(found.identity == record.identity);
    CHECK(found.es == record.es);
    REQUIRE(record.verdict);
    REQUIRE_FALSE(record.steps.empty());
    const auto listed = journal.newest(7, std::nullopt); // a thousand launches with their verdicts would be a hundred MiB
    REQUIRE(listed.size() == 1);
    CHECK_FALSE(listed[0].verdict);
    CHECK(listed[0].steps.empty());
    CHECK(listed[0].to_json(false) == record.to_json(false));
    const auto unended = journal.unended();
    REQUIRE(unended.size() == 1);
    CHECK(unended[0].to_json(true) == record.to_json(true));
    CHECK_FALSE(journal.use_session(filled<16>(1), 99)); // for ever
    CHECK(journal.stuck() == std::vector<Journal::Stuck>{{psp::GuestHandle{9}, psp::Asid{4}, "r"}});
    CHECK(error_of([&] { Journal{directory.path()}; }).find("another sevd has it") != std::string::npos);
    struct stat status {};
    REQUIRE(::stat((directory / "journal.sqlite").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("journal: one active launch of a name, ids never come again, the newest ended ones are kept") {
    TemporaryDirectory directory;
    Journal journal{directory.path()};
    Record record = some_record("one");
    record.id = journal.add(record);
    CHECK_THROWS_WITH_AS(journal.add(record), doctest::Contains("UNIQUE"), Error);
    std::uint64_t last = record.id;
    record.state = State::destroyed;
    journal.save(record);
    for (std::size_t i = 0; i < Journal::ended_limit + 20; ++i) {
        Record ended = some_record("one");
        ended.state = State::failed;
        const auto id = journal.add(ended);
        CHECK(id > last);
        last = id;
    }
    CHECK(journal.newest(2 * Journal::ended_limit, std::nullopt).size() <= Journal::ended_limit + 1);
    CHECK(journal.unended().empty());
    CHECK_FALSE(journal.find(record.id).has_value());
    CHECK(journal.find(last).has_value());
    record.id = 1'000'000;
    CHECK_THROWS_WITH_AS(journal.save(record), doctest::Contains("is not in it"), Error);
}

TEST_CASE("journal: a launch's bundle is kept over restarts, as many as have room, the newest and those that have not ended first") {
    TemporaryDirectory directory;
    const auto bundle = attest::read_message<attest::Bundle>(read_text(fixture("attest/bundle.json"), 1U << 20), "bundle");
    const std::size_t size = bundle.to_json().dump().size();
    const auto measured = attest::parse_time("2026-01-02T03:04:06Z", "time");
    std::vector<std::uint64_t> ids;
    {
        Journal journal{directory.path(), 3 * size};
        for (int i = 0; i < 5; ++i) {
            Record record = some_record(fmt::format("n{}", i));
            record.state = i == 0 ? State::running : State::refused;
            ids.push_back(journal.add(record));
            CHECK_FALSE(journal.bundle(ids.back()).has_value());
            journal.keep_bundle(ids.back(), bundle, measured);
            REQUIRE(journal.bundle(ids.back()).has_value());
        }
        journal.keep_bundle(ids.back(), bundle, measured); // again: one a launch
    }
    Journal journal{directory.path()};
    const auto kept = journal.bundle(ids.at(4)).value();
    CHECK(kept.bundle == bundle);
    CHECK(kept.measured == measured);
    std::string left;
    for (const auto id : ids) left += journal.bundle(id) ? '1' : '0';
    CHECK(left == "10011"); // it runs; and the newest two
    CHECK_FALSE(journal.bundle(99).has_value());
    CHECK_FALSE(journal.bundle(~std::uint64_t{0}).has_value());
    for (std::size_t i = 0; i < Journal::ended_limit; ++i) {
        Record ended = some_record("one");
        ended.state = State::failed;
        journal.add(ended);
    }
    CHECK_FALSE(journal.bundle(ids.at(4)).has_value()); // gone with its launch
    CHECK(journal.bundle(ids.at(0)).has_value());
}

TEST_CASE("journal: a launch whose place cannot be made is not in it, nor a bundle; and it goes on when there is place again") {
    TemporaryDirectory directory;
    const auto bundle = attest::read_message<attest::Bundle>(read_text(fixture("attest/bundle.json"), 1U << 20), "bundle");
    Journal journal{directory.path(), 1};
    Record record = some_record("first");
    record.id = journal.add(record);
    journal.keep_bundle(record.id, bundle, record.created);
    record.state = State::failed;
    journal.save(record);
    const auto change = [&](const std::string& sql) {
        sqlite3* database = nullptr;
        REQUIRE(::sqlite3_open((directory / "journal.sqlite").c_str(), &database) == SQLITE_OK);
        CHECK(::sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
        ::sqlite3_close(database);
    };
    for (std::size_t i = 0; i < Journal::ended_limit; ++i) {
        Record ended = some_record("one");
        ended.id = journal.add(ended);
        ended.state = State::failed;
        journal.save(ended);
    }
    REQUIRE(journal.bundle(record.id).has_value()); // one more than are kept: the next launch takes its place
    for (const char* table : {"launches", "bundles"})
        change(fmt::format("CREATE TRIGGER full_{0} BEFORE DELETE ON {0} BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END", table));
    Record second = some_record("second");
    CHECK_THROWS_WITH_AS(journal.add(second), doctest::Contains("disk is full"), Error);
    CHECK(journal.newest(10, "second").empty());
    CHECK(journal.unended().empty());
    CHECK_THROWS_WITH_AS(journal.keep_bundle(record.id + 1, bundle, record.created), doctest::Contains("disk is full"), Error);
    CHECK_FALSE(journal.bundle(record.id + 1).has_value());
    change("DROP TRIGGER full_launches; DROP TRIGGER full_bundles");
    second.id = journal.add(second);
    CHECK(journal.unended().size() == 1);
    journal.keep_bundle(second.id, bundle, record.created);
    CHECK(journal.bundle(second.id).has_value());
}

TEST_CASE("journal: what could not be read again is not written; a row that cannot be read is told once, and hides no other") {
    TemporaryDirectory directory;
    Journal journal{directory.path()};
    std::vector<std::string> told;
    journal.on_unreadable([&](const std::string& what) { told.push_back(what); });
    Record record = some_record("one");
    record.id = journal.add(record);
    const std::string before = journal.find(record.id).value().to_json(true).dump(), large(1U << 20, 'x');
    const auto refused = [&](const std::function<void(Record&)>& spoil, const char* why) {
        Record bad = record;
        spoil(bad);
        CHECK_THROWS_WITH_AS(journal.save(bad), doctest::Contains(why), Error);
        bad.request.name = "other";
        CHECK_THROWS_WITH_AS(journal.add(bad), doctest::Contains(why), Error);
        CHECK(journal.find(record.id).value().to_json(true).dump() == before);
        CHECK(journal.newest(10, std::nullopt).size() == 1);
    };
    refused([&](Record& bad) { bad.verdict = json::Value{{"detail", large}}; }, "verdict of 1048589 bytes, want at most 1048576");
    refused([&](Record& bad) { bad.steps.at(0).detail = large; }, "steps of");
    refused([&](Record& bad) { bad.reason = large + "x"; }, "reason of 1048577 bytes");
    record.state = State::refused;
    journal.save(record);
    Record good = some_record("two");
    good.id = journal.add(good);

    sqlite3* database = nullptr;
    REQUIRE(::sqlite3_open((directory / "journal.sqlite").c_str(), &database) == SQLITE_OK);
    // as an earlier version wrote it, when an owner's refusal was long
    REQUIRE(::sqlite3_exec(database, "UPDATE launches SET verdict=printf('\"%.1100000c\"', 'x') WHERE name='one'", nullptr, nullptr, nullptr) ==
            SQLITE_OK);
    CHECK(journal.newest(10, std::nullopt).size() == 2); // which shows no verdicts
    CHECK(journal.unended().size() == 1);
    try {
        static_cast<void>(journal.find(record.id));
        FAIL("a verdict of more than the limit was read");
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::system); // of no fault of whoever asked
        CHECK(error.what() == fmt::format("launch {} cannot be read: journal: a text of 1100002 bytes, want at most 1048576", record.id));
    }
    REQUIRE(::sqlite3_exec(database, "UPDATE launches SET state='gone' WHERE name='one'", nullptr, nullptr, nullptr) == SQLITE_OK);
    ::sqlite3_close(database);
    for (int i = 0; i < 3; ++i) {
        const auto listed = journal.newest(10, std::nullopt);
        REQUIRE(listed.size() == 1);
        CHECK(listed[0].id == good.id);
    }
    CHECK(told ==
          std::vector<std::string>{fmt::format("launch {0} cannot be read: journal: launch {0}: evidence or state has an unknown name", record.id)});
    CHECK(journal.unended().size() == 1);
}

TEST_CASE("journal: one of version 1, without bundles, is brought up, and nothing in it is lost") {
    TemporaryDirectory directory;
    Record record = some_record("one");
    {
        Journal journal{directory.path()};
        record.id = journal.add(record);
    }
    sqlite3* database = nullptr;
    REQUIRE(::sqlite3_open((directory / "journal.sqlite").c_str(), &database) == SQLITE_OK);
    REQUIRE(::sqlite3_exec(database, "DROP TABLE bundles; PRAGMA user_version=1; PRAGMA wal_checkpoint(TRUNCATE);", nullptr, nullptr, nullptr) ==
            SQLITE_OK);
    ::sqlite3_close(database);
    const auto bundle = attest::read_message<attest::Bundle>(read_text(fixture("attest/bundle.json"), 1U << 20), "bundle");
    {
        Journal journal{directory.path()};
        CHECK(journal.find(record.id).value().to_json(true) == record.to_json(true));
        journal.keep_bundle(record.id, bundle, record.created);
    }
    CHECK(Journal{directory.path()}.bundle(record.id).value().bundle == bundle);
}

TEST_CASE("journal: a file that is none, a damaged one and one of another version are refused, and left alone") {
    const auto refused = [](const std::function<void(const Path&)>& spoil) {
        TemporaryDirectory directory;
        {
            Journal journal{directory.path()};
            Record record = some_record("one");
            for (int i = 0; i < 50; ++i) {
                record.request.name = fmt::format("n{}", i);
                journal.add(record);
            }
        }
        spoil(directory / "journal.sqlite");
        const Bytes before = read_file(directory / "journal.sqlite", 1 << 24);
        const std::string said = error_of([&] {
            Journal journal{directory.path()};
            for (const Record& listed : journal.newest(1000, std::nullopt)) static_cast<void>(journal.find(listed.id));
        });
        CHECK(read_file(directory / "journal.sqlite", 1 << 24).size() == before.size());
        return said;
    };
    const auto patch = [](std::uint64_t at, std::string_view bytes) {
        return [at, text = std::string{bytes}](const Path& path) {
            std::fstream file{path, std::ios::in | std::ios::out | std::ios::binary};
            file.seekp(static_cast<std::streamoff>(at));
            file.write(text.data(), static_cast<std::streamsize>(text.size()));
        };
    };
    CHECK(refused(patch(0, "no database at all")).find("not a database") != std::string::npos);
    CHECK(refused(patch(60, std::string_view{"\0\0\0\x07", 4})).find("is of version 7, want 2") !=
          std::string::npos); // SQLite file format, 60: user version
    CHECK(refused(patch(68, "ABCD")).find("is no journal of sevd") != std::string::npos);                           // 68: application id
    CHECK(refused(patch(4096 * 3, std::string(4096, '\xA5'))) != "nothing was thrown");
    CHECK(refused([](const Path& path) { std::filesystem::resize_file(path, 4096 * 2); }) != "nothing was thrown");
}
