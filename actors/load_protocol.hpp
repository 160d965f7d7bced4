#pragma once

#include "actors/runtime_statistics.hpp"
#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

// How a load generator speaks to a server: what it sends and how it reads answers. No sockets, no clocks.

/// The longest line, event or body of an answer: that of a request with 16 MiB of text, which is the most a server
/// takes.
inline constexpr std::size_t load_reply_bytes_max = std::size_t{64} << 20;

/// Status line and headers of an HTTP answer; as much as common servers send and accept.
inline constexpr std::size_t load_head_bytes_max = std::size_t{64} << 10;

/// Where to send requests: "tcp://HOST:PORT" speaks lines, "http://HOST[:PORT]" OpenAI's completions.
struct load_target {
    bool http = false;
    std::string host, port;
};

/// Errors: invalid_argument (another scheme, no host, no port; https is not spoken).
result<load_target> parse_load_target(std::string_view text);

/// One request, complete. Exactly `max_tokens` tokens are wanted unless `stop_at_end_token`.
struct load_request {
    std::string prompt;
    std::vector<token_id> ids; ///< in place of the prompt when there are any
    std::int64_t max_tokens = 1;
    std::uint64_t seed = 0;
    double temperature = 0;
    bool stream = true, stop_at_end_token = false;
};

/// What a server says about itself; fields that it does not tell are empty.
struct load_server_facts {
    std::string model;
    std::optional<std::int32_t> vocabulary, context_max;
    std::shared_ptr<const runtime_statistics> statistics; ///< of told_statistics; null: it tells none
};

/// What newly received bytes say about the one request that is open.
struct reply_news {
    enum class outcome { open, completed, cancelled, failed };
    std::size_t tokens = 0; ///< that arrived, one a line or event; none when the answer comes in one piece
    outcome state = outcome::open;
    std::uint64_t completion_tokens = 0; ///< of an ended request, as the server counts; 0 when it does not say
    std::string reason;                  ///< of a failure: the server's code, or what was wrong with its answer
    std::optional<load_server_facts> facts;
    bool reusable = true; ///< once ended: the connection takes another request
};

/// One connection's conversation; one request at a time.
class load_protocol {
public:
    virtual ~load_protocol() = default;

    /// The bytes of a question about the server, answered with `facts`.
    virtual std::string ask_facts() = 0;

    /// The same where an answer's `statistics` are what is wanted.
    virtual std::string ask_statistics() = 0;

    /// The bytes of a request.
    virtual std::string ask(const load_request& request) = 0;

    /// Takes what the socket gave, in pieces of any size.
    virtual reply_news receive(std::string_view bytes) = 0;

    /// The peer has closed. An open request has failed, unless its answer ends with the connection.
    virtual reply_news closed() = 0;

    /// A new connection begins with these bytes; forgets what an old one left.
    virtual std::string greet() = 0;
};

struct load_protocol_options {
    load_target target;
    std::string key;   ///< empty: none
    std::string model; ///< HTTP: what requests name
};

std::unique_ptr<load_protocol> make_load_protocol(const load_protocol_options& options);
std::unique_ptr<load_protocol> make_line_load_protocol(std::string key);
std::unique_ptr<load_protocol> make_http_load_protocol(const load_protocol_options& options);

/// An ended, failed request whose connection cannot be used again.
reply_news broken_reply(std::string reason);

/// The same for a server that names a code. Overlong and unprintable codes are replaced: they come from outside.
std::string shown_code(std::string_view code);

} // namespace moira
