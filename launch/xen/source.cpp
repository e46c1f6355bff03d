// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/source.hpp"

#include <fmt/format.h>

#include "base/crypto.hpp"
#include "base/error.hpp"
#include "ovmf-measure/xen/config_readers.hpp"

namespace sev::launch::xen {
namespace {

/// A guest of an earlier run that runs on: nothing of it is measured any more.
class RunningDomain final : public Guest {
public:
    RunningDomain(std::unique_ptr<Domain> domain, std::shared_ptr<ForeignMemory> memory, DomainState state)
        : domain_{std::move(domain)}, memory_{std::move(memory)}, state_{std::move(state)} {}
    std::vector<Run> locate(psp::Gpa, std::uint64_t) const override { no("locate"); }
    void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const override {
        const std::uint64_t first = psp::raw(start) / page_bytes, last = (psp::raw(start) + out.size() + page_bytes - 1) / page_bytes;
        const Mapping mapping = memory_->map(state_.domid, first, last - first, MapAccess::read);
        std::ranges::copy(mapping.bytes().subspan(psp::raw(start) % page_bytes, out.size()), out.begin());
    }
    const std::vector<GuestPart>& parts() const override { no("parts"); }
    const std::vector<psp::SystemAddress>& vmsas() const override { no("vmsas"); }
    std::optional<GuestSlot> slot(std::string_view) const override { return std::nullopt; }
    attest::LaunchDescriptor descriptor() const override { no("descriptor"); }
    void recheck() override { no("recheck"); }
    void run() override { no("run"); }
    void destroy() override { domain_->destroy(); }
    bool alive() override {
        const auto now = domain_->find();
        return now && now->domid == state_.domid && now->uuid == state_.uuid && !now->dying && !now->shutdown;
    }

private:
    [[noreturn]] static void no(std::string_view what) { throw Error{Fault::bug, fmt::format("{} of a guest that runs already", what)}; }
    std::unique_ptr<Domain> domain_;
    std::shared_ptr<ForeignMemory> memory_;
    DomainState state_;
};

/// What a domain is told from others by: its UUID, and for one that was there before its launch the number too, since a UUID may be used again.
struct Identity {
    std::string uuid;
    std::optional<std::uint32_t> domid;
    static Identity parse(const json::Value& value) {
        json::Object object{value, "identity of a Xen guest"};
        Identity out{.uuid = object.string("uuid", 64), .domid = std::nullopt};
        if (object.has("domid")) out.domid = static_cast<std::uint32_t>(object.number("domid", 0x7FEF));
        object.string_or("name", "", 4096);
        object.string_or("configuration", "", 64);
        object.done();
        return out;
    }
    std::unique_ptr<Domain> adopt(Toolstack& toolstack, bool hold) const {
        return domid ? toolstack.adopt(*domid, uuid, hold) : toolstack.adopt(uuid, hold);
    }
};

/// Whether an xl.cfg has a line for the UUID; xl makes one up otherwise, another each time.
bool names_uuid(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        std::string_view line = text.substr(at, end - at);
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
        if (line.starts_with("uuid") && line.find_first_of("= \t") == 4) return true;
        at = end + 1;
    }
    return false;
}

/// The configuration inside {"domid": …, "config": {…}}, or the value itself.
json::Value& inner(json::Value& config) { return config.contains("config") ? config["config"] : config; }

/// Refuses a domain that would be built or started again, unattested, when it ends: the process that created it does so by itself (xl create stays
/// for that), and nobody asks this daemon then. What libxl's JSON leaves out is destroy. A soft reset is the guest's own kexec, in the memory that it
/// has. Nothing writes the guest's memory, and the secrets in it, to a core file either.
void check_endings(json::Value config, std::string_view what) {
    json::Value& all = inner(config);
    for (const char* const event : {"on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset"}) {
        if (!all.contains(event)) continue;
        const json::Value& action = all.at(event);
        if (action == "destroy" || action == "preserve" || (action == "soft_reset" && std::string_view{event} == "on_soft_reset")) continue;
        throw Error{Fault::usage,
                    fmt::format("{}: {} is {}, want destroy or preserve: the toolstack would start it again, or keep a copy, unattested", what, event,
                                printable(action.dump(), 64)),
                    fmt::format("create it anew with {}=\"destroy\" (libvirt: <{}>destroy</{}>)", event, event, event)};
    }
}

/// A domain's configuration as libxl has it, if the domain ends for good when it ends.
std::string adopted_config(Domain& domain, std::uint32_t domid) {
    const std::string what = fmt::format("domain {}", domid);
    std::string out = domain.config();
    check_endings(json::parse(out, what, {.bytes = measure::xen_config_limit_bytes, .depth = 64}), what);
    return out;
}

/// SHA-256 of a configuration without what xl draws anew each time it reads one: the UUID, and HVM's generation id.
std::string digest_of(json::Value config) {
    json::Value& all = inner(config);
    all.at("c_info").erase("uuid");
    for (json::Value& part : all.at("b_info"))
        if (part.is_object()) part.erase("ms_vm_genid");
    return hex(sha256(as_bytes(all.dump())));
}

} // namespace

std::string DomainSource::libxl_json(const WantedDomain& wanted) {
    if (wanted.file) return parts_.toolstack->read_xl_config(*wanted.file);
    const Path file = parts_.scratch / fmt::format("xl-{}.cfg", random_uuid());
    write_file(file, as_bytes(*wanted.text), Visibility::secret, Existing::refuse);
    struct Remove {
        const Path& path;
        ~Remove() {
            std::error_code ignored;
            std::filesystem::remove(path, ignored);
        }
    } const remove{file};
    return parts_.toolstack->read_xl_config(file);
}

std::shared_ptr<ForeignMemory> DomainSource::memory() {
    const std::scoped_lock lock{mutex_};
    if (!memory_) memory_ = parts_.open_memory();
    return memory_;
}

GuestSource::Plan DomainSource::plan(const json::Value& guest) {
    const WantedDomain wanted = WantedDomain::parse(guest);
    memory(); // says what is missing where there is no Xen
    if (wanted.domid) {
        const auto domain = parts_.toolstack->adopt(*wanted.domid, false);
        if (!domain) throw Error{Fault::usage, fmt::format("domain {}: there is none", *wanted.domid), "xl list shows the domains"};
        const DomainState state = domain->state();
        wanted.check_uuid(state.uuid);
        if (!state.paused || state.has_run)
            throw Error{Fault::usage, fmt::format("domain {}: has run, want one that was created paused", *wanted.domid), "xl create -p"};
        adopted_config(*domain, *wanted.domid);
        return {.es = false, .identity = {{"uuid", state.uuid}, {"domid", state.domid}}};
    }
    json::Value config = json::parse(libxl_json(wanted), "configuration", {.bytes = measure::xen_config_limit_bytes, .depth = 64});
    const measure::XenGuestConfig read = measure::read_libxl_json(config.dump(), "configuration");
    const json::Value& c_info = inner(config).at("c_info");
    // a configuration may name its UUID; then that is who it is, and two cannot be at once
    const std::string source = wanted.file ? read_text(*wanted.file, measure::xen_config_limit_bytes) : *wanted.text;
    const std::string uuid = names_uuid(source) && c_info.contains("uuid") ? c_info.at("uuid").get<std::string>() : random_uuid();
    if (parts_.toolstack->adopt(uuid, false)) throw Error{Fault::usage, fmt::format("a domain with the UUID {} is there already", printable(uuid))};
    return {.es = false, .identity = {{"uuid", uuid}, {"name", read.name}, {"configuration", digest_of(config)}}};
}

std::unique_ptr<Guest> DomainSource::open(const json::Value& guest, const json::Value& identity) {
    const WantedDomain wanted = WantedDomain::parse(guest);
    const measure::XenVersion version = parts_.toolstack->version();
    const auto planned = Identity::parse(identity);
    DomainGuest::Parts made{.domain = nullptr, .prepared = nullptr, .memory = memory(), .pages = parts_.pages, .unpause = wanted.unpause};
    if (wanted.domid) {
        made.domain = parts_.toolstack->adopt(*wanted.domid, planned.uuid, true); // the one that was planned: its number may be another's by now
        if (!made.domain) throw Error{Fault::system, fmt::format("domain {}: is gone", *wanted.domid)};
        const std::string config = adopted_config(*made.domain, *wanted.domid);
        made.prepared = std::make_unique<Prepared>(measure::read_libxl_json(config, fmt::format("domain {}", *wanted.domid)), version, parts_.host);
        return std::make_unique<DomainGuest>(std::move(made));
    }
    json::Value config = json::parse(libxl_json(wanted), "configuration", {.bytes = measure::xen_config_limit_bytes, .depth = 64});
    if (digest_of(config) != identity.at("configuration"))
        throw Error{Fault::malformed,
                    fmt::format("{}: has changed since the launch was admitted",
                                wanted.file ? printable(wanted.file->string(), 4096) : "configuration"),
                    "launch it anew"};
    inner(config)["c_info"]["uuid"] = planned.uuid;
    const std::string text = inner(config).dump();
    made.prepared =
        std::make_unique<Prepared>(measure::read_libxl_json(text, "configuration"), version, parts_.host); // refused before anything is created
    made.domain = parts_.toolstack->create(text);
    return std::make_unique<DomainGuest>(std::move(made));
}

std::unique_ptr<Guest> DomainSource::adopt(const json::Value& identity) {
    auto domain = Identity::parse(identity).adopt(*parts_.toolstack, false);
    if (!domain) return nullptr;
    DomainState state = domain->state();
    return std::make_unique<RunningDomain>(std::move(domain), memory(), std::move(state));
}

bool DomainSource::same_guest(const json::Value& one, const json::Value& other) const {
    return Identity::parse(one).uuid == Identity::parse(other).uuid;
}

std::string DomainSource::destroy_leftover(const json::Value& identity) {
    const auto domain = Identity::parse(identity).adopt(*parts_.toolstack, true);
    const auto state = domain ? domain->find() : std::nullopt;
    if (!state) return "nothing was left of it";
    domain->destroy();
    return fmt::format("domain {} was destroyed", state->domid);
}

} // namespace sev::launch::xen
