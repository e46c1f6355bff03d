// SPDX-License-Identifier: Apache-2.0
// The asking end of the keeper and the starters, against programs that a test writes: shell scripts that answer anything.
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "launch/xen/child.hpp"
#include "launch/xen/toolstack.hpp"
#include "tests/launch_xen/support.hpp"

using namespace sev;
using namespace sev::launch::xen;
using test::refusal;

namespace {

constexpr const char* hello = "echo '{\"ok\": {\"protocol\": 1}}'\n";
constexpr const char* state =
    R"({"ok": {"domid": 7, "uuid": "0c2f5b8e-0000-4000-8000-000000000007", "type": "pvh", "paused": true,)"
    R"( "shutdown": false, "dying": false, "has_run": false, "pages": 5, "vcpus": 1, "online": 1}})";

struct Scripts {
    test::TemporaryDirectory folder;
    Path script(std::string_view name, const std::string& body) const {
        const Path path = folder / name;
        std::filesystem::remove(path);
        write_file(path, as_bytes("#!/bin/sh\n" + body), Visibility::secret, Existing::refuse);
        ::chmod(path.c_str(), 0700);
        return path;
    }
    std::unique_ptr<Toolstack> toolstack(const std::string& body, std::chrono::milliseconds deadline = std::chrono::seconds{20}) const {
        return keeper_toolstack({.program = script("keeper", body), .xl = folder / "xl", .deadline = deadline, .create_deadline = deadline,
                                 .find_deadline = deadline},
                                direct_starter());
    }
};

} // namespace

TEST_CASE("keeper: questions and answers are lines of JSON") {
    const Scripts scripts;
    const auto toolstack = scripts.toolstack(std::string{hello} + "while read -r q; do echo \"$q\" >>" + (scripts.folder / "asked").string() +
                                             "; case $q in\n*create*|*state*|*adopt*) echo '" + state +
                                             "';;\n*version*) echo '{\"ok\": \"4.17.7\"}';;\n*context*) echo '{\"ok\": \"AQID\"}';;\n*smbios*) echo "
                                             "'{\"ok\": {\"address\": 4096, \"length\": 16}}';;\n*) echo '{\"ok\": true}';; esac; done\n");
    CHECK(toolstack->version() == measure::XenVersion{.major = 4, .minor = 17, .patch = 7});
    const auto domain = toolstack->create("{\"c_info\": {}}");
    CHECK(domain->state().domid == 7);
    CHECK(domain->state().pages == 5);
    CHECK(domain->context() == Bytes{1, 2, 3});
    CHECK(domain->smbios_module()->gpa == 4096);
    domain->unpause();
    domain->let_go();
    domain->destroy();
    const std::string id = "0c2f5b8e-0000-4000-8000-000000000007";
    const auto adopted = toolstack->adopt(7, id, true);
    CHECK(adopted->state().uuid == id);
    const std::string asked = read_text(scripts.folder / "asked", 4096);
    CHECK(asked.find("{\"do\":\"create\",\"config\":\"{\\\"c_info\\\": {}}\"}\n") != std::string::npos);
    CHECK(asked.find("{\"do\":\"unpause\"}\n{\"do\":\"let_go\"}\n{\"do\":\"destroy\"}\n") != std::string::npos);
    CHECK(asked.find("{\"do\":\"adopt\",\"domid\":7,\"uuid\":\"" + id + "\",\"hold\":true}\n") != std::string::npos);
}

TEST_CASE("keeper: whatever goes wrong is one line") {
    const Scripts scripts;
    const auto version = [&](const std::string& body, std::chrono::milliseconds deadline = std::chrono::seconds{20}) {
        return refusal([&] { scripts.toolstack(body, deadline)->version(); });
    };
    CHECK(version("echo '{\"ok\": {\"protocol\": 2}}'; cat >/dev/null\n") == "xen-sev-keeper: protocol is 2, want 1");
    CHECK(version("echo '{\"error\": \"libxl does not start: no\"}'\n") == "libxl does not start: no");
    CHECK(version("echo 'libxenlight.so.4.17: cannot open' >&2; exit 127\n") == "keeper: has ended: libxenlight.so.4.17: cannot open");
    CHECK(version("sleep 5\n", std::chrono::milliseconds{200}) == "keeper: no answer in time");
    CHECK(version(std::string{hello} + "read q; echo '{\"ok\": \"4.18-rc\"}'; cat >/dev/null\n").find("such as 4.17.7") !=
          std::string::npos);
    CHECK(version(std::string{hello} + "read q; echo nonsense; cat >/dev/null\n").starts_with("xen-sev-keeper: "));
    CHECK(version(std::string{hello} + "read q; echo '{\"ok\": 1, \"more\": 2}'; cat >/dev/null\n").starts_with("xen-sev-keeper"));
    CHECK(version(std::string{hello} + "read q; head -c 20000000 /dev/zero | tr '\\0' x\n").find("says more than") != std::string::npos);
    std::filesystem::remove(scripts.folder / "keeper");
    CHECK(refusal([&] { keeper_toolstack({.program = scripts.folder / "keeper"}, direct_starter())->version(); }) ==
          "keeper: No such file or directory");
    CHECK_FALSE(scripts.toolstack(std::string{hello} + "read q; echo '{\"ok\": null}'; cat >/dev/null\n")->adopt(7, true));
}

TEST_CASE("keeper: a domain whose keeper is gone is destroyed by another") {
    const Scripts scripts;
    const std::string seen = (scripts.folder / "seen").string();
    // the first dies after it has made the domain; the next finds it by its UUID
    const auto toolstack = scripts.toolstack(std::string{hello} + "read q; echo \"$q\" >>" + seen + "; echo '" + state +
                                             "'; case $q in *create*) exit 0;; esac; read q; echo \"$q\" >>" + seen + "; echo '{\"ok\": true}'\n");
    toolstack->create("{}")->destroy();
    const std::string asked = read_text(seen, 4096);
    CHECK(asked.find("\"uuid\":\"0c2f5b8e-0000-4000-8000-000000000007\",\"hold\":true") != std::string::npos);
    CHECK(asked.ends_with("{\"do\":\"destroy\"}\n"));
}

TEST_CASE("keeper: one that is gone, or silent, says nothing of its domain; another is asked, and keeps it") {
    const Scripts scripts;
    const std::string seen = (scripts.folder / "seen").string(), first = (scripts.folder / "first").string();
    const std::string others = "while read -r q; do echo \"other $q\" >>" + seen + "; echo '" + state + "'; done\n";
    for (const char* const end : {"exit 0", "sleep 3; echo '{\"ok\": null}'; read -r q; echo '{\"ok\": null}'; exit 0"}) {
        CAPTURE(std::string{end});
        std::filesystem::remove(first);
        std::filesystem::remove(seen);
        // the first of them makes the domain and lets it run
        const auto toolstack = scripts.toolstack(std::string{hello} + "if [ ! -e " + first + " ]; then touch " + first + "; read -r q; echo '" +
                                                     state + "'; read -r q; echo '{\"ok\": true}'; read -r q; " + end + "; fi\n" + others,
                                                 std::chrono::seconds{1});
        const auto domain = toolstack->create("{}");
        domain->unpause();
        const auto found = domain->find();
        REQUIRE(found);
        CHECK(found->domid == 7);
        CHECK(domain->find());
        CHECK(domain->state().domid == 7);
        CHECK(read_text(seen, 4096) == "other {\"do\":\"adopt\",\"domid\":7,\"uuid\":\"0c2f5b8e-0000-4000-8000-000000000007\",\"hold\":false}\n"
                                       "other {\"do\":\"state\"}\nother {\"do\":\"state\"}\n");
    }
}

TEST_CASE("keeper: only a toolstack that says so makes a domain gone") {
    const Scripts scripts;
    const auto find = [&](const std::string& answer) {
        const auto toolstack = scripts.toolstack(std::string{hello} + "read -r q; echo '" + state + "'; while read -r q; do " + answer + "; done\n");
        const auto domain = toolstack->create("{}");
        scripts.script("keeper", std::string{hello} + "while read -r q; do " + answer + "; done\n"); // and all others likewise
        return domain->find();
    };
    CHECK_FALSE(find("echo '{\"ok\": null}'"));
    CHECK(find(std::string{"echo '"} + state + "'"));
    CHECK(refusal([&] { find("echo '{\"error\": \"list of domains: libxl error 0\"}'"); }) == "list of domains: libxl error 0");
    CHECK(refusal([&] { find("exit 0"); }) == "keeper: has ended");
    CHECK(refusal([&] { find("echo nonsense"); }).starts_with("xen-sev-keeper: "));
}

TEST_CASE("keeper: an answer that comes too late is not taken for that to the next question") {
    const Scripts scripts;
    const auto toolstack =
        scripts.toolstack(std::string{hello} + "read -r q; echo '" + state +
                              "'; read -r q; sleep 1; echo '{\"ok\": \"late\"}'; while read -r q; do echo '{\"ok\": \"next\"}'; done\n",
                          std::chrono::milliseconds{600});
    const auto domain = toolstack->create("{}");
    CHECK(refusal([&] { domain->config(); }) == "keeper: no answer in time");
    std::this_thread::sleep_for(std::chrono::milliseconds{700});
    CHECK(refusal([&] { domain->config(); }) == "xen-sev-keeper: is not asked any more: keeper: no answer in time");
}

TEST_CASE("xl: what it prints is the configuration, and its complaint the refusal") {
    const Scripts scripts;
    const auto toolstack = scripts.toolstack("exit 1\n");
    scripts.script("xl", "[ \"$*\" = 'create -n -q /g.cfg' ] || exit 3\necho 'Parsing config from /g.cfg'; echo '{\"c_info\": {}}'\n");
    CHECK(toolstack->read_xl_config("/g.cfg") == "{\"c_info\": {}}\n");
    scripts.script("xl", "echo '/g.cfg:1: config parsing error' >&2; exit 1\n");
    CHECK(refusal([&] { toolstack->read_xl_config("/g.cfg"); }) == "/g.cfg: xl refuses it: /g.cfg:1: config parsing error");
}

TEST_CASE("starters: what is started gets nothing of ours, and the forked one starts what it was told alone") {
    const Scripts scripts;
    const Path shows = scripts.script("shows", "env | sort; ls /proc/self/fd | wc -l; ps -o sid= -p $$ | tr -d ' ' | grep -cx $$\n");
    ::setenv("XEN_SEV_TEST_SECRET", "x", 1);
    const auto until = [] { return std::chrono::steady_clock::now() + std::chrono::seconds{20}; };
    const auto forked = forked_starter({shows});
    const auto direct = direct_starter();
    for (Starter* const starter : {forked.get(), direct.get()}) {
        Child child{*starter, shows, {}};
        const std::string said = child.all(4096, until());
        CHECK(said.find("XEN_SEV_TEST_SECRET") == std::string::npos);
        CHECK(said.find("LC_ALL=C\n") != std::string::npos);
        CHECK(said.find("\n4\n1\n") != std::string::npos); // three descriptors and ls's own; a session of its own
    }
    CHECK(refusal([&] { forked->start("/bin/true", {}); }) == "true: Operation not permitted");
    CHECK(refusal([&] { direct->start("/nowhere/program", {}); }) == "program: No such file or directory");
    CHECK(refusal([&] { forked->start(shows, {std::string(20000, 'x')}); }).find("bytes of arguments") != std::string::npos);
}

TEST_CASE("starters: the forked one keeps no lock of the process that it came from") {
    const test::TemporaryDirectory folder;
    const Path file = folder / "lock";
    const auto open = [&] { return Fd{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)}; };
    std::unique_ptr<Starter> forked;
    {
        const Fd ours = open();
        REQUIRE(::flock(ours.get(), LOCK_EX | LOCK_NB) == 0);
        forked = forked_starter({"/bin/true"});
        static_cast<void>(forked->start("/bin/true", {})); // it is at work by now
    }
    const Fd successor = open();
    CHECK(::flock(successor.get(), LOCK_EX | LOCK_NB) == 0); // a daemon that is killed and started anew
}

TEST_CASE("UUIDs are random, of version 4") {
    const std::string one = random_uuid(), two = random_uuid();
    CHECK(one != two);
    CHECK(one.size() == 36);
    CHECK(one[14] == '4');
    CHECK(std::string_view{"89ab"}.find(one[19]) != std::string_view::npos);
}
