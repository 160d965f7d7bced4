#include "actors/load_protocol.hpp"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

using namespace moira;

namespace {

struct ending {
    reply_news::outcome state;
    std::string reason;
    std::uint64_t completion_tokens;
};

/// Answers one question with `bytes` in pieces of `piece`, then closes.
ending answer(load_protocol& protocol, int question, std::string_view bytes, std::size_t piece) {
    protocol.greet();
    question == 0 ? protocol.ask({}) : question == 1 ? protocol.ask_facts() : protocol.ask_statistics();
    reply_news news;
    while (!bytes.empty() && news.state == reply_news::outcome::open) {
        news = protocol.receive(bytes.substr(0, piece));
        bytes.remove_prefix(std::min(piece, bytes.size()));
    }
    if (news.state == reply_news::outcome::open)
        news = protocol.closed();
    return {news.state, news.reason, news.completion_tokens};
}

} // namespace

/// What a server answers ends every request, and in the same way however its bytes were cut. The first byte chooses the
/// protocol and the question.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const bool http = (data[0] & 1) != 0;
    const int question = (data[0] & 2) == 0 ? 0 : (data[0] & 4) == 0 ? 1 : 2;
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const load_protocol_options options{{http, "host", "1"}, "", "m"};
    const auto whole = answer(*make_load_protocol(options), question, bytes, size);
    const auto cut = answer(*make_load_protocol(options), question, bytes, 1);
    if (whole.state == reply_news::outcome::open || whole.state != cut.state || whole.reason != cut.reason ||
        whole.completion_tokens != cut.completion_tokens)
        std::abort();
    return 0;
}
