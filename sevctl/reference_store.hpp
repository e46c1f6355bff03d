// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "console/command.hpp"
#include "ovmf-measure/xen/acpi_reference.hpp"

/// A folder of reference values for Xen guests, one file each, named by what it is for.
namespace sev::cli {

inline constexpr Argument reference_store_option{
    .name = "--store",
    .kind = Kind::directory,
    .metavar = "DIR",
    .help = "Where reference values are kept. Default: /var/lib/xen-sev/references for root, else ~/.local/share/xen-sev/references."};

/// The folder that --store names, or the default one. It need not exist.
Path reference_store(const Arguments& given);

struct StoredReference {
    Path path;
    measure::AcpiReference reference;
};
/// One file of reference values. Throws Error that names the file.
StoredReference load_reference(const Path& path);
/// All of a folder, by file name; none when it does not exist. Other files in it are passed over. Throws for the first reference that is damaged.
std::vector<StoredReference> stored_references(const Path& store);

/// The reference in a folder for these vCPUs and, where given, this release of Xen or this package of libxenlight. Throws Error{Fault::usage} when
/// there is none, or more than one.
StoredReference find_reference(const Path& store, unsigned vcpus, const measure::XenVcpuSet& online, const std::optional<std::string>& version);

} // namespace sev::cli
