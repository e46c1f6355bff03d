// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/configuration.hpp"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attest/protocol/exchange.hpp"
#include "base/error.hpp"

namespace sev::daemon {
namespace {

Path absolute_path(json::Object& object, std::string_view key) {
    Path path = object.string(key, 4096);
    if (!path.is_absolute()) object.refuse(key, fmt::format("is \"{}\", want an absolute path", printable(path.string())));
    return path.lexically_normal();
}

Owner owner_from_json(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    Owner out{.key = attest::OwnerKey::from_json(object.at("key"), what + ": key"), .channel = Owner::UnixChannel{}};
    json::Object channel = object.object("channel");
    if (channel.has("unix") == channel.has("command"))
        throw Error{Fault::malformed, what + ": channel: want exactly one of \"unix\" and \"command\""};
    if (channel.has("unix")) {
        out.channel = Owner::UnixChannel{absolute_path(channel, "unix")};
    } else {
        Owner::CommandChannel command;
        for (const json::Value& word : channel.array("command", Configuration::argument_limit)) {
            if (!word.is_string() || word.get_ref<const std::string&>().find('\0') != std::string::npos)
                channel.refuse("command", "holds something that is no word, want a list of texts");
            command.argv.push_back(word.get<std::string>());
        }
        if (command.argv.empty() || !command.argv.front().starts_with('/'))
            channel.refuse("command", "does not begin with the absolute path of a program");
        out.channel = std::move(command);
    }
    channel.done();
    out.deadline = std::chrono::seconds{object.number_or("deadline_s", 120, 3600)};
    if (out.deadline.count() == 0) object.refuse("deadline_s", "is 0, want 1 to 3600");
    object.done();
    return out;
}

/// AMD's endorsement of the chip: both files or neither.
void read_endorsement(json::Object& object, PspChoice& out) {
    if (object.has("cek") != object.has("ca")) object.refuse("cek", "and \"ca\" belong together, want both or neither");
    if (!object.has("cek")) return;
    out.cek = absolute_path(object, "cek");
    out.ca = absolute_path(object, "ca");
}

PspChoice psp_from_json(json::Object object) {
    PspChoice out;
    const std::string backend = object.string("backend");
    if (backend == "emulated") {
        out.backend = PspChoice::Backend::emulated;
        out.state = absolute_path(object, "state");
        if (object.has("faults"))
            for (const json::Value& fault : object.array("faults", 64)) {
                if (!fault.is_string()) object.refuse("faults", "holds something that is no text");
                out.faults.push_back(fault.get<std::string>());
            }
    } else if (backend == "ccp") {
        out.backend = PspChoice::Backend::ccp;
        if (object.has("device")) out.device = absolute_path(object, "device");
        read_endorsement(object, out);
    } else if (backend == "xen") {
        out.backend = PspChoice::Backend::xen;
        if (object.has("layout")) {
            const std::string layout = object.string("layout");
            out.layout = psp::xen::layout_named(layout);
            if (!out.layout)
                object.refuse("layout", fmt::format("is \"{}\", want \"rfc-2025-05\", \"vates-a\" or \"vates-b\"", printable(layout)));
        }
        read_endorsement(object, out);
    } else {
        object.refuse("backend", fmt::format("is \"{}\", want \"emulated\", \"ccp\" or \"xen\"", printable(backend)));
    }
    out.deadline = std::chrono::milliseconds{object.number_or("deadline_ms", 30'000, 600'000)};
    if (out.deadline.count() == 0) object.refuse("deadline_ms", "is 0, want 1 to 600000");
    object.done();
    return out;
}

XenHost xen_from_json(json::Object object) {
    XenHost out;
    out.keeper = object.has("keeper") ? absolute_path(object, "keeper") : Path{XEN_SEV_LIBEXEC_DIRECTORY "/xen-sev-keeper"};
    if (object.has("xl")) out.xl = absolute_path(object, "xl");
    if (object.has("references")) out.references = absolute_path(object, "references");
    if (object.has("hvmloader")) out.hvmloader = absolute_path(object, "hvmloader");
    if (object.has("ovmf")) out.ovmf = absolute_path(object, "ovmf");
    if (object.has("seabios")) out.seabios = absolute_path(object, "seabios");
    object.done();
    return out;
}

/// From the very file whose owner and mode were looked at, and not from what has its name by now.
std::string text_of(const OpenFile& file, const std::string& what) {
    if (file.size_bytes > Configuration::limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, more than the limit of {}", what, file.size_bytes, Configuration::limit_bytes)};
    std::string out(static_cast<std::size_t>(file.size_bytes), '\0');
    for (std::size_t got = 0; got < out.size();) {
        const ssize_t some = ::read(file.fd.get(), out.data() + got, out.size() - got);
        if (some < 0 && errno == EINTR) continue;
        if (some < 0) throw Error{Fault::system, fmt::format("{}: {}", what, std::strerror(errno))};
        if (some == 0) throw Error{Fault::system, fmt::format("{}: shrank while it was read", what)};
        got += static_cast<std::size_t>(some);
    }
    return out;
}

} // namespace

Configuration Configuration::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    attest::expect_format(object, format, version);
    Configuration out;
    out.psp = psp_from_json(object.object("psp"));
    if (object.has("xen")) {
        if (out.psp.backend != PspChoice::Backend::emulated)
            object.refuse("xen", "wants \"psp\": {\"backend\": \"emulated\"}: this version launches Xen domains with no other PSP");
        out.xen = xen_from_json(object.object("xen"));
    }
    if (object.has("socket")) out.socket = absolute_path(object, "socket");
    if (object.has("group")) out.group = attest::checked_name(object.string("group"), out.socket.string() + ": group");
    if (object.has("state")) out.state = absolute_path(object, "state");
    if (object.has("writers")) {
        out.writers.clear();
        for (const json::Value& uid : object.array("writers", 64)) {
            if (!uid.is_number_unsigned() || uid.get<std::uint64_t>() > 0xFFFF'FFFE)
                object.refuse("writers", "holds something that is no uid, want a list of numbers from 0 to 4294967294");
            out.writers.insert(uid.get<unsigned>());
        }
    }
    const json::Value no_owners = json::Value::object();
    const json::Value& owners = object.has("owners") ? object.at("owners") : no_owners;
    if (!owners.is_object() || owners.size() > owner_limit) object.refuse("owners", fmt::format("is no object of at most {} owners", owner_limit));
    for (const auto& [name, owner] : owners.items()) {
        const std::string of = fmt::format("{}: owners[\"{}\"]", what, printable(name));
        out.owners.emplace(attest::checked_policy_name(name, of), owner_from_json(owner, of));
    }
    if (object.has("limits")) {
        json::Object limits = object.object("limits");
        out.launch_limit = limits.number_or("launches", out.launch_limit, 4096);
        out.memory_limit_bytes = limits.number_or("guest_memory_bytes", out.memory_limit_bytes, std::uint64_t{1} << 50);
        limits.done();
    }
    object.done();
    return out;
}

Configuration Configuration::parse(std::string_view text, std::string_view what) {
    return from_json(json::parse(text, what, {.bytes = limit_bytes, .depth = 16}), what);
}

Configuration Configuration::load(const Path& path) {
    const std::string what = printable(path.string(), 1024);
    const OpenFile file = open_regular(path);
    struct stat status {};
    if (::fstat(file.fd.get(), &status) != 0) throw Error{Fault::system, fmt::format("{}: {}", what, std::strerror(errno))};
    if ((status.st_mode & 0022) != 0 || (status.st_uid != 0 && status.st_uid != ::geteuid()))
        throw Error{Fault::usage, fmt::format("{}: others may write it (mode {:04o}, owner {})", what, status.st_mode & 07777, status.st_uid),
                    "chown root, chmod go-w: it names keys and commands that are trusted"};
    return parse(text_of(file, what), what);
}

std::vector<std::string> Configuration::needs_restart(const Configuration& other) const {
    std::vector<std::string> out;
    if (psp != other.psp) out.emplace_back("psp");
    if (xen != other.xen) out.emplace_back("xen");
    if (socket != other.socket) out.emplace_back("socket");
    if (group != other.group) out.emplace_back("group");
    if (state != other.state) out.emplace_back("state");
    if (memory_limit_bytes != other.memory_limit_bytes) out.emplace_back("limits.guest_memory_bytes");
    return out;
}

} // namespace sev::daemon
