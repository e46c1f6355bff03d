// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "launch/daemon/api.hpp"
#include "psp/emulator/emulated_firmware.hpp"
#include "tests/daemon/owner.hpp"
#include "tests/support.hpp"

namespace sev::test {

using namespace std::chrono_literals;
using namespace daemon;

/// What an Error says that leaves `body`.
inline std::string error_of(const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.what();
    }
    return "nothing was thrown";
}

/// A PSP whose commands a test can hold up, and that lives on when a daemon dies.
class HeldFirmware final : public psp::Firmware {
public:
    HeldFirmware(psp::emulator::Emulator& emulator, psp::AddressSpace& space) : inner_{emulator, space, 400ms} {}
    psp::Status issue(psp::CommandId id, psp::Call& call) override {
        {
            std::unique_lock lock{mutex_};
            ++at_work_;
            if (held_ == id) waiting_ = true;
            changed_.notify_all();
            changed_.wait(lock, [&] { return held_ != id; });
            waiting_ = false;
        }
        const auto over = [this] {
            const std::scoped_lock lock{mutex_};
            --at_work_;
            changed_.notify_all();
        };
        try {
            const psp::Status status = inner_.issue(id, call);
            over();
            return status;
        } catch (...) {
            over();
            throw;
        }
    }
    void flush_caches() override { inner_.flush_caches(); }
    std::string_view backend() const noexcept override { return "emulated"; }
    void hold(psp::CommandId id) {
        const std::scoped_lock lock{mutex_};
        held_ = id;
    }
    void let_go() {
        const std::scoped_lock lock{mutex_};
        held_.reset();
        changed_.notify_all();
    }
    /// A command that a daemon gave up goes on without it: before the chip goes, that must be over.
    void finish() {
        let_go();
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [&] { return at_work_ == 0; });
    }
    bool wait_until_held() {
        std::unique_lock lock{mutex_};
        return changed_.wait_for(lock, 5s, [&] { return waiting_; });
    }

private:
    psp::emulator::EmulatedFirmware inner_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<psp::CommandId> held_;
    bool waiting_ = false;
    unsigned at_work_ = 0;
};

/// What happens to test guests, for all daemons of one test: a guest as a hypervisor has it outlives the daemon.
struct World {
    std::mutex mutex;
    std::set<std::string> created, running, destroyed;
    unsigned ran_ever = 0;
    std::string vanish_at; // a call that fails: "open", "opened" (with the guest made), "descriptor", "recheck", "run", "alive"
    unsigned destroy_failures = 0;
    bool es = false;
    bool left_paused = false; // whoever asked for a launch resumes its guest
    void gone_at(const std::string& call) {
        const std::scoped_lock lock{mutex};
        if (vanish_at == call) throw Error{Fault::system, "domain is gone, at " + call};
    }
    /// With `mutex` held.
    void fail_to_destroy() {
        if (destroy_failures == 0) return;
        --destroy_failures;
        throw Error{Fault::system, "the toolstack does not answer"};
    }
};

/// A guest of 64 KiB that behaves as a domain of a hypervisor does.
class WorldGuest final : public launch::Guest {
public:
    WorldGuest(World& world, std::string name, psp::PageSource& pages)
        : world_{world}, name_{std::move(name)}, memory_{pages.allocate(0x10000)}, slot_{pages.allocate(0x1000)} {
        for (std::size_t i = 0; i < memory_->bytes().size(); ++i) memory_->bytes()[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
        if (!world_.es) return;
        vmsa_ = pages.allocate(0x1000);
        vmsas_.push_back(vmsa_->at());
    }
    std::vector<launch::Run> locate(psp::Gpa start, std::uint64_t length) const override {
        world_.gone_at(psp::raw(start) >= 0x100000 ? "LAUNCH_SECRET"
                       : psp::raw(start) > 0       ? "LAUNCH_UPDATE_DATA of the second part"
                                                   : "LAUNCH_UPDATE_DATA");
        if (psp::raw(start) >= 0x100000) return {{slot_->at() + (psp::raw(start) - 0x100000), length}};
        return {{memory_->at() + psp::raw(start), length}};
    }
    void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const override {
        std::ranges::copy(memory_->bytes().subspan(psp::raw(start), out.size()), out.begin());
    }
    const std::vector<launch::GuestPart>& parts() const override { return parts_; }
    const std::vector<psp::SystemAddress>& vmsas() const override { return vmsas_; }
    std::optional<launch::GuestSlot> slot(std::string_view name) const override {
        world_.gone_at("slot");
        if (name != "initrd") return std::nullopt;
        return launch::GuestSlot{.name = "initrd", .gpa = psp::Gpa{0x100000}, .length_bytes = 0x1000};
    }
    attest::LaunchDescriptor descriptor() const override {
        world_.gone_at("descriptor");
        attest::LaunchDescriptor out;
        for (const launch::GuestPart& part : parts_) {
            const ByteView bytes = memory_->bytes().subspan(psp::raw(part.gpa), part.length_bytes);
            out.regions.push_back({.label = "memory", .gpa = part.gpa, .length_bytes = part.length_bytes, .sha256 = sha256(bytes), .source = "test"});
        }
        return out;
    }
    void recheck() override { world_.gone_at("recheck"); }
    void run() override {
        world_.gone_at("run");
        const std::scoped_lock lock{world_.mutex};
        world_.running.insert(name_);
        ++world_.ran_ever;
    }
    bool is_left_paused() const noexcept override { return world_.left_paused; }
    void destroy() override {
        const std::scoped_lock lock{world_.mutex};
        world_.fail_to_destroy();
        world_.running.erase(name_);
        world_.destroyed.insert(name_);
    }
    bool alive() override {
        world_.gone_at("alive");
        const std::scoped_lock lock{world_.mutex};
        return world_.running.contains(name_);
    }
    static Bytes memory() {
        Bytes out(0x10000);
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
        return out;
    }

private:
    World& world_;
    std::string name_;
    std::unique_ptr<psp::Pages> memory_, slot_, vmsa_;
    std::vector<launch::GuestPart> parts_{{psp::Gpa{0}, 0x8000}, {psp::Gpa{0x8000}, 0x8000}};
    std::vector<psp::SystemAddress> vmsas_;
};

class WorldSource final : public launch::GuestSource {
public:
    WorldSource(World& world, psp::PageSource& pages) : world_{world}, pages_{pages} {}
    std::string_view kind() const noexcept override { return "world"; }
    unsigned level() const noexcept override { return 1; }
    Plan plan(const json::Value& guest) override { return {.es = world_.es, .identity = {{"domain", guest.at("domain")}}}; }
    std::unique_ptr<launch::Guest> open(const json::Value& guest, const json::Value& identity) override {
        world_.gone_at("open");
        REQUIRE(identity == plan(guest).identity);
        const std::string name = guest.at("domain").get<std::string>();
        {
            const std::scoped_lock lock{world_.mutex};
            world_.created.insert(name);
        }
        world_.gone_at("opened");
        return std::make_unique<WorldGuest>(world_, name, pages_);
    }
    std::unique_ptr<launch::Guest> adopt(const json::Value& identity) override {
        const std::string name = identity.at("domain").get<std::string>();
        const std::scoped_lock lock{world_.mutex};
        if (!world_.running.contains(name)) return nullptr;
        return std::make_unique<WorldGuest>(world_, name, pages_);
    }
    bool same_guest(const json::Value& one, const json::Value& other) const override { return one == other; }
    std::string destroy_leftover(const json::Value& identity) override {
        const std::string name = identity.at("domain").get<std::string>();
        const std::scoped_lock lock{world_.mutex};
        world_.fail_to_destroy();
        world_.running.erase(name);
        world_.destroyed.insert(name);
        return "domain " + name + " was destroyed";
    }

private:
    World& world_;
    psp::PageSource& pages_;
};

/// A host: chip, world and owner, which outlive the daemons that a test starts and loses.
struct DaemonHost {
    /// With `es` the guests have one CPU's register state, which no reference of the owner's covers: good for what comes before a verdict.
    explicit DaemonHost(bool es = false)
        : wants_es{es}, emulator{psp::emulator::Emulator::create(directory / "psp", *psp::emulator::find_personality("epyc-3151"))},
          firmware{std::make_shared<HeldFirmware>(*emulator, space)} {
        world.es = es;
        write_file(directory / "memory", WorldGuest::memory(), Visibility::readable, Existing::refuse);
        write_file(directory / "secret", as_bytes("correct horse battery staple"), Visibility::secret, Existing::refuse);
        owner = std::make_unique<TestOwner>(attest::OwnerPolicy::parse(policy(), "policy", directory.path()));
        Configuration base =
            Configuration::parse(R"({"format":"xen-sev/sevd-configuration","version":1,"psp":{"backend":"emulated","state":"/nowhere"}})", "test");
        configuration = std::move(base);
        configuration.owners.emplace("alice", Owner{.key = owner->key(), .channel = Owner::UnixChannel{directory / "owner.sock"}, .deadline = 20s});
        std::filesystem::create_directory(directory / "state");
        start_owner();
    }
    ~DaemonHost() {
        owner->stop();
        firmware->finish();
    }
    void start_owner() {
        service::Limits limits;
        limits.workers = 8;
        server = std::make_unique<service::Server>(owner->routes(), limits, log);
        server->listen(service::UnixEndpoint{.path = directory / "owner.sock", .mode = 0600, .group = std::nullopt});
        server->start();
    }
    std::string policy() const {
        return fmt::format(
            R"({{"format":"xen-sev/owner-policy","version":1,"owner":"test",
 "validity":{{"not_before":"2020-01-01T00:00:00Z","not_after":"2090-01-01T00:00:00Z"}},
 "roots":{{"amd":[],"other":[{{"label":"test emulator","product":"naples","emulated":true,"fingerprint":"{}"}}]}},
 "chips":[{{"label":"chip","cek":"{}"}}],"minimum_build":"0.17.22","accept_unproven_build":false,
 "guest_policy":{{"required":["NODBG","NOKS"{}],"forbidden":[{}]}},"level":0,"evidence":["measurement"],
 "references":[{{"name":"guest","image":{{"parts":[{{"label":"memory","file":"memory"}}]}}}}],
 "secrets":[{{"name":"key","file_name":"key","path":"secret","when":{{"references":["guest"]}}}}],"accepted_advisories":[]}})",
            hex(emulator->identity().ark.fingerprint()), hex(emulator->identity().cek.fingerprint()), wants_es ? R"(,"ES")" : "",
            wants_es ? "" : R"("ES")");
    }
    /// INIT, by nobody of this test's daemons: so that contexts can be there before the first.
    void initialise() { platform.emplace(direct, space); }
    psp::PlatformStatus status() {
        return psp::run(direct, psp::GetPlatformStatus{});
    }

    const bool wants_es;
    TemporaryDirectory directory;
    psp::AddressSpace space;
    std::unique_ptr<psp::emulator::Emulator> emulator;
    std::shared_ptr<HeldFirmware> firmware;
    psp::emulator::EmulatedFirmware direct{*emulator, space, 400ms};
    std::optional<launch::InitialisedPlatform> platform;
    World world;
    std::unique_ptr<TestOwner> owner;
    Configuration configuration;
    service::Log log{"test", service::Sink::standard_error, service::Priority::error};
    std::unique_ptr<service::Server> server;
};

struct WorldBackend final : Backend {
    explicit WorldBackend(DaemonHost& host) {
        firmware = host.firmware;
        const auto& identity = host.emulator->identity();
        endorsement = launch::Endorsement{identity.cek, identity.ask, identity.ark};
        asids = {.max = host.emulator->personality().max_asid, .min_sev = host.emulator->personality().min_sev_asid};
        emulated = true;
        title = "test";
        pages = &host.space;
        sources.push_back(std::make_unique<WorldSource>(host.world, host.space));
    }
};

/// One run of the daemon, without its sockets.
struct Daemon {
    explicit Daemon(DaemonHost& its_host, std::chrono::milliseconds deadline = 5s)
        : host{its_host}, backend{its_host}, journal{its_host.directory / "state"}, psp{backend.firmware, deadline},
          launches{{.backend = backend, .psp = psp, .journal = journal, .owners = owners, .events = events, .log = its_host.log},
                   its_host.configuration} {
        launches.recover();
    }
    static LaunchRequest request(const std::string& name) {
        return LaunchRequest::parse(
            fmt::format(R"({{"name":"{0}","owner":"alice","policy":"web","guest":{{"kind":"world","domain":"{0}"}}}})", name));
    }
    std::uint64_t start(const std::string& name) {
        const auto made = launches.create(request(name));
        if (const auto* refusal = std::get_if<Refusal>(&made)) throw Error{Fault::usage, refusal->detail};
        return std::get<Record>(made).id;
    }
    std::string refusal(const std::string& name) {
        const auto made = launches.create(request(name));
        const auto* refused = std::get_if<Refusal>(&made);
        return refused ? fmt::format("{} {}", refused->status, refused->detail) : "admitted";
    }
    /// The record once it has one of these states, or an end; as it is after ten seconds otherwise.
    Record settle(std::uint64_t id, State state = State::running) {
        for (int i = 0; i < 1000; ++i) {
            const Record record = launches.find(id).value();
            if (record.state == state || has_ended(record.state)) return record;
            std::this_thread::sleep_for(10ms);
        }
        return launches.find(id).value();
    }
    /// Runs maintenance until `done`, at most ten seconds.
    template <class Done>
    bool maintain_until(Done&& done) {
        for (int i = 0; i < 200; ++i) {
            launches.maintain();
            if (done()) return true;
            std::this_thread::sleep_for(50ms);
        }
        return false;
    }

    DaemonHost& host;
    WorldBackend backend;
    Journal journal;
    service::EventHub events;
    OwnerChannel owners{nullptr};
    PspQueue psp;
    Launches launches;
};

/// Of both halves: those that a launch can have, at once or after a flush.
inline std::size_t free_asids(const Daemon& daemon) {
    const auto sev = daemon.launches.asids().count(false), es = daemon.launches.asids().count(true);
    return sev.clean + sev.dirty + es.clean + es.dirty;
}

/// A guest context as a daemon that died left it in the PSP.
inline psp::GuestHandle left_context(DaemonHost& host, std::optional<psp::Asid> asid) {
    const auto handle =
        psp::run(host.direct, psp::LaunchStart{.policy = psp::Policy{0}, .share_with = {}, .godh = std::nullopt, .session = std::nullopt});
    if (asid) psp::run(host.direct, psp::Activate{.guest = handle, .asid = *asid});
    return handle;
}

/// A launch "web" of domain "web" with ASID 12, as a daemon that died in this state left it: in the journal, and from `loading` on in the PSP. Its
/// number.
inline std::uint64_t left_launch(DaemonHost& host, State state) {
    Journal journal{host.directory / "state"};
    Record record;
    record.request = Daemon::request("web");
    record.identity = {{"domain", "web"}};
    record.state = state;
    record.asid = psp::Asid{12};
    if (state >= State::loading) record.handle = left_context(host, record.asid);
    record.created = record.updated = attest::parse_time("2026-01-02T03:04:05Z", "time");
    CHECK_FALSE(record.reversal().empty());
    return journal.add(record);
}

} // namespace sev::test
