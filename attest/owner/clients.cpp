// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/clients.hpp"

#include <algorithm>

namespace sev::attest::owner {

const Client* Clients::find(std::string_view channel) const {
    auto found = std::ranges::find(list_, channel, &Client::channel);
    if (found == list_.end() && !channel.starts_with("uid:")) {
        const std::string all = std::string{channel.substr(0, channel.find(':'))} + ":any";
        found = std::ranges::find(list_, all, &Client::channel);
    }
    return found == list_.end() ? nullptr : &*found;
}

bool Clients::may_use(std::string_view channel, std::string_view policy) const {
    const Client* client = find(channel);
    return client && (!client->policies || std::ranges::find(*client->policies, policy) != client->policies->end());
}

} // namespace sev::attest::owner
