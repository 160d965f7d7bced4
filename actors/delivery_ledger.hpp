#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moira {

/// Open requests of all sinks of one runtime handle. An intake accepts a few hundred; the rest is on its way to being
/// refused.
inline constexpr std::size_t embedded_requests_max = 4'096;

/// Deltas that a sink may have granted and not received: more than a text has tokens.
inline constexpr std::uint32_t delta_credit_max = std::uint32_t{1} << 20;

/// Tokens and their text that a sink has not heard of yet.
struct held_text {
    std::vector<token_id> token_ids;
    std::string text;
    bool empty() const noexcept { return token_ids.empty() && text.empty(); }
};

/// Which requests of which sinks are open, and what each sink may still be sent: one delta per credit, everything that
/// happens without credit in the next one. A request holds at most its own max_tokens. Sinks are numbers that the
/// caller chooses. Plain state, one owner.
class delivery_ledger {
public:
    struct request {
        std::uint64_t sink = 0, tag = 0;
    };
    struct delta {
        request of;
        held_text content;
    };

    /// Opens a request and returns its number, unique in this ledger. Errors: duplicate_id, queue_full,
    /// invalid_argument (credit beyond delta_credit_max).
    result<std::uint64_t> open(std::uint64_t sink, std::uint64_t tag, std::uint32_t credit);

    /// The number of a sink's open request.
    std::optional<std::uint64_t> number_of(std::uint64_t sink, std::uint64_t tag) const;

    /// More was generated. Gives what is to be sent now: everything held and one credit less, or nothing.
    std::optional<delta> add(std::uint64_t number, const std::vector<token_id>& token_ids, const std::string& text);

    /// The sink is ready for `count` more, together at most delta_credit_max. Gives what is to be sent now.
    std::optional<delta> grant(std::uint64_t number, std::uint32_t count);

    /// Closes a request; gives what its sink has not heard of.
    std::optional<delta> close(std::uint64_t number);

    /// Closes all requests of a sink that is gone; gives their numbers.
    std::vector<std::uint64_t> forget(std::uint64_t sink);

    /// Numbers of all open requests.
    std::vector<std::uint64_t> open_numbers() const;

    /// Whether the sink has open requests.
    bool has_open(std::uint64_t sink) const;

private:
    struct entry {
        request of;
        std::uint32_t credit = 0;
        held_text held;
    };

    static std::optional<delta> send(entry& open);

    std::map<std::uint64_t, entry> entries_;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> numbers_; // (sink, tag) -> number
    std::uint64_t last_number_ = 0;
};

} // namespace moira
