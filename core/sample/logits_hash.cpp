#include "core/sample/sampler.hpp"

#include <new>
#include <type_traits>

// Inlined, so that the size of the state is this header's and never that of another installed library.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace moira {

namespace {

static_assert(std::is_trivially_copyable_v<XXH64_state_t>, "copying a logits_hash copies bytes");

XXH64_state_t* state_of(unsigned char* bytes) noexcept {
    return std::launder(reinterpret_cast<XXH64_state_t*>(bytes));
}

} // namespace

logits_hash::logits_hash() noexcept : state_{} {
    static_assert(sizeof(XXH64_state_t) <= state_bytes && alignof(XXH64_state_t) <= 8);
    XXH64_reset(new (state_) XXH64_state_t{}, 0);
}

void logits_hash::add(std::span<const float> logits) noexcept {
    XXH64_update(state_of(state_), logits.data(), logits.size_bytes());
}

std::uint64_t logits_hash::value() const noexcept {
    logits_hash copy = *this;
    return XXH64_digest(state_of(copy.state_));
}

std::string logits_hash::hex() const {
    constexpr char digits[] = "0123456789abcdef";
    std::string text(16, '0');
    std::uint64_t rest = value();
    for (auto digit = text.rbegin(); digit != text.rend(); ++digit, rest >>= 4)
        *digit = digits[rest & 15];
    return text;
}

} // namespace moira
