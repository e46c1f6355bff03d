// SPDX-License-Identifier: Apache-2.0
#include "sevctl/reference_store.hpp"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <unistd.h>

#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

std::string environment(const char* name) {
    const char* const value = std::getenv(name);
    return value ? value : "";
}

} // namespace

Path reference_store(const Arguments& given) {
    if (const auto store = given.text_if(reference_store_option.name)) {
        if (store->empty()) throw Error{Fault::usage, "--store is empty, want a directory"};
        return *store;
    }
    if (::geteuid() == 0) return "/var/lib/xen-sev/references";
    if (const std::string data = environment("XDG_DATA_HOME"); !data.empty()) return Path{data} / "xen-sev/references";
    const std::string home = environment("HOME");
    if (home.empty()) throw Error{Fault::usage, "neither HOME nor XDG_DATA_HOME is set: no default folder for reference values", "give --store DIR"};
    return Path{home} / ".local/share/xen-sev/references";
}

StoredReference load_reference(const Path& path) {
    const std::string what = shown(path);
    return {.path = path,
            .reference = measure::AcpiReference::from_json(
                json::parse(read_text(path, measure::AcpiReference::limit_bytes), what, {.bytes = measure::AcpiReference::limit_bytes}), what)};
}

std::vector<StoredReference> stored_references(const Path& store) {
    std::vector<Path> paths;
    std::error_code failed;
    for (std::filesystem::directory_iterator at{store, failed}, end; !failed && at != end; at.increment(failed)) {
        const std::string name = at->path().filename().string();
        if (name.starts_with("xen-acpi-") && name.ends_with(".json")) paths.push_back(at->path());
    }
    if (failed && failed != std::errc::no_such_file_or_directory) throw Error{Fault::system, fmt::format("{}: {}", shown(store), failed.message())};
    std::ranges::sort(paths);
    std::vector<StoredReference> out;
    for (const Path& path : paths) out.push_back(load_reference(path));
    return out;
}

StoredReference find_reference(const Path& store, unsigned vcpus, const measure::XenVcpuSet& online, const std::optional<std::string>& version) {
    const auto fits = [&](const StoredReference& one) {
        const bool same_build = !version || one.reference.libxenlight == *version || one.reference.xen_version.text() == *version;
        return one.reference.vcpus == vcpus && one.reference.online == online && same_build;
    };
    std::vector<StoredReference> found;
    for (StoredReference& one : stored_references(store))
        if (fits(one)) found.push_back(std::move(one));
    const std::string wanted =
        fmt::format("{} vCPUs, online {}{}", vcpus, measure::text(online), version ? ", libxenlight " + printable(*version) : std::string{});
    if (found.empty())
        throw Error{Fault::usage, fmt::format("{}: no ACPI reference for {}", shown(store), wanted),
                    "take one from a paused guest with sevctl reference capture, or give --reference FILE"};
    if (found.size() > 1)
        throw Error{Fault::usage, fmt::format("{}: {} ACPI references for {}", shown(store), found.size(), wanted),
                    "say which with --xen-version or --reference"};
    return std::move(found.front());
}

} // namespace sev::cli
