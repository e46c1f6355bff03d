// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/json.hpp"
#include "ovmf-measure/xen/config_readers.hpp"
#include "ovmf-measure/xen/predict.hpp"

namespace sev::attest {

/// "This guest, built by this release of Xen": PVH and HVM guests of a Xen host, predicted from the owner's own files. Paths are absolute or relative
/// to the policy file.
struct XenRecipe {
    enum class Source { inline_guest, xl_cfg, libxl_json, libvirt_xml };
    /// The owner's copies of the guest's files; what is absent here is read where the configuration says.
    struct Files {
        std::optional<Path> kernel, ramdisk, hvmloader, firmware, acpi_firmware, smbios_firmware;
        friend bool operator==(const Files&, const Files&) = default;
    };

    Source source = Source::inline_guest; // JSON: exactly one of "guest" (inline), "xl_cfg", "libxl_json", "libvirt_xml"
    measure::XenGuestConfig guest;        // inline
    Path config;                          // the others: the configuration file
    Files files;                          // JSON: "files"
    std::optional<Path> acpi_reference;   // PVH needs one
    std::optional<measure::XenVersion> xen_version; // HVM needs one; PVH: that of the ACPI reference
    measure::XenOrder order = measure::XenOrder::ascending_gfn; // JSON: "page_order"
    /// Which of its process's PVH guests this one is: with xl always the first. A later one has another digest.
    measure::XenBuild build = measure::XenBuild::first;

    static XenRecipe from_json(json::Object object);
    json::Value to_json() const;
    friend bool operator==(const XenRecipe&, const XenRecipe&) = default;
};
/// JSON key of a source: "guest", "xl_cfg", "libxl_json", "libvirt_xml".
std::string_view name(XenRecipe::Source source);

/// A recipe carried out: the image, and the bytes of the files that it is made of. They are copies: a file that changes or shrinks later changes
/// nothing here.
struct XenPrediction {
    measure::XenGuestConfig config;
    measure::XenVersion version;
    measure::XenImage image;
    std::vector<Bytes> files;
};
/// The guest's configuration: inline, or read from its file. Throws Error that names the file.
measure::XenGuestConfig config_of(const XenRecipe& recipe, const Path& base);
/// Reads the recipe's files and predicts. Throws Error that names file and field; see measure::predict_xen.
XenPrediction predict(const XenRecipe& recipe, const Path& base);
/// The files that the prediction reads, in the recipe's order: configuration, ACPI reference, guest's files. Reads the configuration for the names in
/// it.
std::vector<Path> files_of(const XenRecipe& recipe, const Path& base);

} // namespace sev::attest
