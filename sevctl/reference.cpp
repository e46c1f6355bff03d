// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "base/crypto.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/reference_store.hpp"

namespace sev::cli {
namespace {

constexpr std::array show_arguments{
    Argument{.name = "FILE",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Files of reference values; without one, all that are kept.",
             .repeated = true,
             .limit_bytes = measure::AcpiReference::limit_bytes},
    reference_store_option,
    json_option,
};
constexpr std::array export_arguments{
    Argument{.name = "--libxenlight",
             .metavar = "VERSION",
             .help = "Package version of the library, or the release of Xen; may be left out when it is the only one."},
    Argument{.name = "--vcpus", .kind = Kind::number, .metavar = "N", .help = "vCPUs of the guest.", .required = true},
    Argument{.name = "--online", .metavar = "SET", .help = "vCPUs that are online when the guest starts, such as 0-1; default all."},
    Argument{.name = "--outfile", .letter = 'o', .kind = Kind::output, .metavar = "FILE", .help = "The file to write.", .required = true},
    reference_store_option,
    force_option,
    json_option,
};
constexpr std::array import_arguments{
    Argument{.name = "FILE",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Files of reference values.",
             .required = true,
             .repeated = true,
             .limit_bytes = measure::AcpiReference::limit_bytes},
    reference_store_option,
    force_option,
    json_option,
};

json::Value as_json(const StoredReference& one) {
    const measure::AcpiReference& reference = one.reference;
    return {{"file", one.path.string()},
            {"libxenlight", reference.libxenlight},
            {"xen_version", reference.xen_version.text()},
            {"vcpus", reference.vcpus},
            {"online", measure::text(reference.online)},
            {"table_pages", reference.tables.size() / 4096},
            {"sha256",
             {{"info", hex(sha256(reference.info))},
              {"tables", hex(sha256(reference.tables))},
              {"tables_of_later_builds", hex(sha256(reference.tables_of(measure::XenBuild::later)))},
              {"rsdp", hex(sha256(reference.rsdp))}}}};
}

void print(const Arguments& given, Console& console, const std::vector<StoredReference>& all) {
    if (console.json()) {
        json::Value result = result_of(given);
        json::Value& list = result["references"] = json::Value::array();
        for (const StoredReference& one : all) list.push_back(as_json(one));
        console.print(result);
        return;
    }
    std::string text;
    for (const StoredReference& one : all)
        text += fmt::format("{}\n  libxenlight {}, {} vCPUs, online {}\n  tables sha256 {}\n", shown(one.path), printable(one.reference.libxenlight),
                            one.reference.vcpus, measure::text(one.reference.online), hex(sha256(one.reference.tables)));
    console.print(text.empty() ? std::string{"no reference values\n"} : text);
}

Bytes serialized(const measure::AcpiReference& reference) {
    const std::string text = json::pretty(reference.to_json());
    return {text.begin(), text.end()};
}

Answer show(const Arguments& given, Console& console) {
    std::vector<StoredReference> all;
    if (given.has("FILE"))
        for (const std::string& path : given.all("FILE")) all.push_back(load_reference(path));
    else all = stored_references(reference_store(given));
    print(given, console, all);
    return all.empty() ? Answer::no : Answer::yes;
}

Answer export_one(const Arguments& given, Console& console) {
    const Path out{given.text("--outfile")};
    check_output(out);
    const auto vcpus = static_cast<unsigned>(given.number("--vcpus", 1, measure::xen_max_vcpus));
    const measure::XenVcpuSet online =
        given.has("--online") ? measure::parse_vcpu_set(given.text("--online"), "--online") : measure::first_vcpus(vcpus);
    const StoredReference found = find_reference(reference_store(given), vcpus, online, given.text_if("--libxenlight"));
    write_output(console, out, serialized(found.reference), Visibility::readable, given.existing());
    if (console.json() || out != "-") print(given, console, {{.path = out, .reference = found.reference}});
    return Answer::yes;
}

/// All are read and checked before one is kept.
Answer import(const Arguments& given, Console& console) {
    const Path store = reference_store(given);
    std::vector<StoredReference> all;
    for (const std::string& path : given.all("FILE")) all.push_back(load_reference(path));
    std::error_code failed;
    std::filesystem::create_directories(store, failed);
    if (failed) throw Error{Fault::system, fmt::format("{}: {}", shown(store), failed.message())};
    FileSet files{given.existing()};
    for (StoredReference& one : all) {
        one.path = store / one.reference.file_name();
        files.stage(one.path, serialized(one.reference), Visibility::readable);
    }
    files.commit();
    print(given, console, all);
    return Answer::yes;
}

} // namespace

const Command reference_show_command{
    .name = "reference show",
    .summary = "show reference values for Xen guests",
    .text = "Says for which libxenlight, number of vCPUs and online set the ACPI pages in each file are, and their SHA-256. Each file is checked as "
            "a whole: signatures, checksums, "
            "addresses, one local APIC for each vCPU. Exit status 1: there are none.",
    .example = "sevctl reference show",
    .arguments = show_arguments,
    .run = show,
};
const Command reference_export_command{
    .name = "reference export",
    .summary = "write one of the kept reference values to a file",
    .text = "Writes the ACPI pages that are kept for this library, number of vCPUs and online set to a file, for a guest owner's policy or another "
            "machine.",
    .example = "sevctl reference export --vcpus 2 -o acpi-2.json",
    .arguments = export_arguments,
    .run = export_one,
};
const Command reference_import_command{
    .name = "reference import",
    .summary = "keep reference values for Xen guests",
    .text = "Checks files of reference values and keeps them. Whoever takes them from elsewhere trusts whoever made them: they are a part of what a "
            "guest is measured against.",
    .example = "sevctl reference import acpi-2.json",
    .arguments = import_arguments,
    .run = import,
};

} // namespace sev::cli
