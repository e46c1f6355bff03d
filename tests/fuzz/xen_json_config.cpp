// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/config_readers.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::measure;

/// A guest's configuration: what is read passes the checks of every configuration, and messages are fit for one line.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const XenGuestConfig config = read_libxl_json(as_text({data, size}), "config");
        check(config);
        fuzz::expect(config.memory_kib > config.video_kib && config.vcpus <= xen_max_vcpus && config.online.test(0),
                     "a configuration that is read can be built");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::malformed || error.fault() == Fault::usage, "a bad configuration is its own fault");
        fuzz::expect(printable(error.what(), 65536) == error.what(), "a message is fit for a terminal");
    }
    return 0;
}
