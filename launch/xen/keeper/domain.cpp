// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/keeper/domain.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include <poll.h>
#include <sys/time.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::launch::xen::keeper {
namespace {

constexpr std::size_t said_limit = 1024;
constexpr std::size_t context_limit = 4 * 1024 * 1024;

std::string text(const libxl_uuid& uuid) {
    std::string out = hex(ByteView{uuid.uuid, 16});
    for (const std::size_t at : {8U, 13U, 18U, 23U}) out.insert(at, "-");
    return out;
}

std::string_view text(libxl_domain_type type) {
    switch (type) {
    case LIBXL_DOMAIN_TYPE_HVM: return "hvm";
    case LIBXL_DOMAIN_TYPE_PVH: return "pvh";
    case LIBXL_DOMAIN_TYPE_PV: return "pv";
    default: return "unknown";
    }
}

json::Value described(libxl_dominfo& info, libxl_domain_type type) {
    return {{"domid", info.domid},
            {"uuid", text(info.uuid)},
            {"type", text(type)},
            {"paused", info.paused},
            {"shutdown", info.shutdown},
            {"dying", info.dying},
            {"has_run", info.cpu_time != 0},
            {"pages", info.current_memkb / 4},
            {"vcpus", info.vcpu_max_id + 1},
            {"online", info.vcpu_online}};
}

timeval now() {
    timeval out{};
    ::gettimeofday(&out, nullptr);
    return out;
}

} // namespace

void Logger::message(xentoollog_logger* logger, xentoollog_level level, int error_number, const char*, const char* format, va_list arguments) {
    if (level < XTL_ERROR) return;
    // the hook begins with its logger
    Hook hook{};
    static_assert(offsetof(Hook, base) == 0);
    std::memcpy(&hook, logger, sizeof hook);
    char line[512];
    std::vsnprintf(line, sizeof line, format, arguments);
    std::string& said = hook.self->said_;
    said += (said.empty() ? "" : "; ") + printable(line, sizeof line);
    if (error_number >= 0) said += fmt::format(": {}", std::strerror(error_number));
    if (said.size() > said_limit) said.erase(0, said.size() - said_limit);
}

std::string Logger::take() { return std::exchange(said_, {}); }

Kept::Kept() {
    libxl_ctx* context = nullptr;
    if (libxl_ctx_alloc(&context, LIBXL_VERSION, 0, logger_.get()) != 0)
        throw Error{Fault::system, fmt::format("libxl does not start: {}", logger_.take()), "this needs dom0 of a Xen host, and root"};
    context_.reset(context);
}

void Kept::refuse(std::string_view what, int code) {
    const std::string said = logger_.take();
    throw Error{Fault::system, said.empty() ? fmt::format("{}: libxl error {}", what, code) : fmt::format("{}: {}", what, said)};
}

std::uint32_t Kept::domain() const {
    if (!domid_) throw Error{Fault::usage, "no domain is kept yet"};
    return *domid_;
}

bool Kept::look(std::uint32_t domid, DomainInfo& info) {
    if (libxl_domain_info(context_.get(), info.get(), domid) == 0) return true;
    // that libxl could not look is no answer; only a list without it says that there is none
    int count = 0;
    libxl_dominfo* const all = libxl_list_domain(context_.get(), &count);
    if (!all) refuse("list of domains", 0);
    const bool listed = std::any_of(all, all + count, [&](const libxl_dominfo& one) { return one.domid == domid; });
    libxl_dominfo_list_free(all, count);
    if (listed) refuse(fmt::format("domain {}: looking at it", domid), 0);
    return false;
}

bool Kept::look(DomainInfo& info) { return look(domain(), info) && text(info->uuid) == uuid_; }

json::Value Kept::answer(const json::Value& question) {
    const std::string what = question.value("do", "");
    logger_.take();
    if (what == "version") {
        const libxl_version_info* const info = libxl_get_version_info(context_.get());
        if (!info) refuse("version", 0);
        return fmt::format("{}.{}{}", info->xen_version_major, info->xen_version_minor, info->xen_version_extra ? info->xen_version_extra : "");
    }
    if (what == "create") return create(question.at("config").get<std::string>());
    if (what == "adopt") return adopt(question);
    if (what == "state") return state();
    if (what == "config") return config();
    if (what == "context") return context();
    if (what == "smbios") return smbios();
    if (what == "unpause") return unpause(), true;
    if (what == "let_go") return let_go(), true;
    if (what == "destroy") return destroy(), true;
    throw Error{Fault::usage, fmt::format("\"{}\" is no question for a keeper", printable(what))};
}

void Kept::look_after() {
    if (const int failed = libxl_evenable_domain_death(context_.get(), domain(), 0, &death_); failed != 0) refuse("watching the domain", failed);
}

json::Value Kept::create(const std::string& config) {
    if (domid_) throw Error{Fault::usage, "a domain is kept already: each is built in a process of its own"};
    DomainConfig parsed;
    if (const int failed = libxl_domain_config_from_json(context_.get(), parsed.get(), config.c_str()); failed != 0) refuse("configuration", failed);
    std::uint32_t domid = ~std::uint32_t{0};
    const int failed = libxl_domain_create_new(context_.get(), parsed.get(), &domid, nullptr, nullptr);
    if (failed != 0) {
        const std::string said = logger_.take();
        if (domid != ~std::uint32_t{0}) libxl_domain_destroy(context_.get(), domid, nullptr); // half made
        throw Error{Fault::system, fmt::format("creating the domain: {}", said.empty() ? fmt::format("libxl error {}", failed) : said)};
    }
    domid_ = domid;
    uuid_ = text(parsed->c_info.uuid);
    type_ = parsed->c_info.type;
    created_ = held_ = true;
    look_after();
    return state();
}

json::Value Kept::adopt(const json::Value& question) {
    if (domid_) throw Error{Fault::usage, "a domain is kept already"};
    if (question.contains("domid")) {
        const auto domid = question.at("domid").get<std::uint32_t>();
        DomainInfo info;
        if (domid == 0 || !look(domid, info)) return nullptr;
        if (question.contains("uuid") && question.at("uuid").get<std::string>() != text(info->uuid)) return nullptr;
        domid_ = domid;
        uuid_ = text(info->uuid);
    } else {
        const auto wanted = question.at("uuid").get<std::string>();
        int count = 0;
        libxl_dominfo* const all = libxl_list_domain(context_.get(), &count);
        if (!all) refuse("list of domains", 0);
        for (int i = 0; i < count; ++i)
            if (all[i].domid != 0 && text(all[i].uuid) == wanted && !all[i].dying) domid_ = all[i].domid;
        libxl_dominfo_list_free(all, count);
        if (!domid_) return nullptr;
        uuid_ = wanted;
    }
    held_ = question.at("hold").get<bool>();
    // the hypervisor knows PV from others alone; PVH and HVM are the toolstack's difference
    DomainConfig config;
    const bool known = libxl_retrieve_domain_configuration(context_.get(), domain(), config.get(), nullptr) == 0;
    DomainInfo info;
    if (known) type_ = config->c_info.type;
    else if (libxl_domain_info(context_.get(), info.get(), domain()) == 0) type_ = info->domain_type;
    look_after();
    return state();
}

json::Value Kept::state() {
    DomainInfo info;
    if (!look(info)) return nullptr;
    return described(*info.get(), type_);
}

std::string Kept::config() {
    DomainConfig out;
    if (const int failed = libxl_retrieve_domain_configuration(context_.get(), domain(), out.get(), nullptr); failed != 0)
        refuse(fmt::format("domain {}: its configuration", domain()), failed);
    const CString json_text{libxl_domain_config_to_json(context_.get(), out.get())};
    if (!json_text) refuse(fmt::format("domain {}: its configuration", domain()), 0);
    return json_text.get();
}

std::string Kept::context() {
    const Control control{xc_interface_open(logger_.get(), logger_.get(), 0)};
    if (!control) refuse("libxenctrl", 0);
    const int size = xc_domain_hvm_getcontext(control.get(), domain(), nullptr, 0);
    if (size <= 0 || static_cast<std::size_t>(size) > context_limit) refuse(fmt::format("domain {}: its saved context", domain()), size);
    Bytes bytes(static_cast<std::size_t>(size));
    const int got = xc_domain_hvm_getcontext(control.get(), domain(), bytes.data(), static_cast<std::uint32_t>(size));
    if (got <= 0) refuse(fmt::format("domain {}: its saved context", domain()), got);
    bytes.resize(static_cast<std::size_t>(got));
    return base64(bytes);
}

json::Value Kept::smbios() {
    const Store store{xs_open(0)};
    if (!store) throw Error{Fault::system, fmt::format("xenstore: {}", std::strerror(errno))};
    const auto number = [&](std::string_view name) -> std::optional<std::uint64_t> {
        unsigned size = 0;
        const CString value{
            static_cast<char*>(xs_read(store.get(), XBT_NULL, fmt::format("/local/domain/{}/hvmloader/smbios/{}", domain(), name).c_str(), &size))};
        if (!value) return std::nullopt;
        char* end = nullptr;
        const std::uint64_t out = std::strtoull(value.get(), &end, 0);
        if (end == value.get() || *end != 0)
            throw Error{Fault::malformed,
                        fmt::format("domain {}: hvmloader/smbios/{} is \"{}\", want a number", domain(), name, printable(value.get()))};
        return out;
    };
    const auto address = number("address"), length = number("length");
    if (!address || !length) return nullptr;
    return {{"address", *address}, {"length", *length}};
}

void Kept::unpause() {
    if (DomainInfo info; !look(info)) throw Error{Fault::system, fmt::format("domain {}: is gone", domain())};
    if (const int failed = libxl_domain_unpause(context_.get(), domain(), nullptr); failed != 0)
        refuse(fmt::format("domain {}: unpausing it", domain()), failed);
    held_ = false;
}

void Kept::let_go() {
    DomainInfo info;
    if (!look(info)) throw Error{Fault::system, fmt::format("domain {}: is gone", domain())};
    if (!info->paused || info->cpu_time != 0) throw Error{Fault::system, fmt::format("domain {}: somebody else has let it run", domain())};
    held_ = false;
}

void Kept::destroy() {
    if (!domid_ || over_) return;
    if (death_) libxl_evdisable_domain_death(context_.get(), std::exchange(death_, nullptr));
    DomainInfo before, after;
    const bool there = look(before);
    const int failed = there ? libxl_domain_destroy(context_.get(), *domid_, nullptr) : 0;
    if (failed != 0 && look(after) && !after->dying) // somebody else may have ended it meanwhile, or be about to
        refuse(fmt::format("domain {}: destroying it", *domid_), failed);
    over_ = true;
    held_ = false;
}

bool Kept::orphaned() {
    if (held_) destroy();
    return created_ && domid_ && !over_;
}

void Kept::events() {
    libxl_event* event = nullptr;
    while (libxl_event_check(context_.get(), &event, LIBXL_EVENTMASK_ALL, nullptr, nullptr) == 0) {
        const bool ended =
            event->type == LIBXL_EVENT_TYPE_DOMAIN_DEATH ||
            (event->type == LIBXL_EVENT_TYPE_DOMAIN_SHUTDOWN && event->u.domain_shutdown.shutdown_reason != LIBXL_SHUTDOWN_REASON_SUSPEND);
        const bool gone = event->type == LIBXL_EVENT_TYPE_DOMAIN_DEATH;
        libxl_event_free(context_.get(), event);
        // what has stopped is not started again, whatever its configuration says: a guest that was attested is attested anew
        if (ended && created_ && !gone) destroy();
        if (gone) over_ = true;
    }
}

bool Kept::wait(int fd) {
    std::vector<pollfd> fds(1);
    int timeout_ms = -1;
    for (int room = 0;;) {
        int count = room;
        fds.resize(static_cast<std::size_t>(room) + 1);
        const int failed = libxl_osevent_beforepoll(context_.get(), &count, fds.data() + 1, &timeout_ms, now());
        if (failed == 0) {
            fds.resize(static_cast<std::size_t>(count) + 1);
            break;
        }
        if (failed != ERROR_BUFFERFULL) refuse("waiting", failed);
        room = count;
    }
    fds[0] = {.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(fds.data(), fds.size(), timeout_ms);
    if (ready < 0 && errno != EINTR) throw Error{Fault::system, fmt::format("poll: {}", std::strerror(errno))};
    if (ready < 0)
        for (pollfd& one : fds) one.revents = 0;
    libxl_osevent_afterpoll(context_.get(), static_cast<int>(fds.size()) - 1, fds.data() + 1, now());
    events();
    return fds[0].revents != 0;
}

} // namespace sev::launch::xen::keeper
