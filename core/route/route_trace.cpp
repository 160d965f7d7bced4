#include "core/route/route_trace.hpp"

#include "core/base/float_formats.hpp"
#include "core/base/read_only_file.hpp"
#include "core/route/route_format.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace moira {
namespace {

static_assert(std::endian::native == std::endian::little, "recordings are little-endian and are read in place");

/// Bytes read at once: a multiple of every element's size.
constexpr std::size_t chunk_bytes = std::size_t{1} << 20;

/// Where bytes come from: a file or memory.
class byte_source {
public:
    virtual ~byte_source() = default;
    virtual std::uint64_t bytes() const = 0;
    virtual result<void> read(std::uint64_t offset, std::span<std::byte> into) = 0;
};

class memory_source final : public byte_source {
public:
    explicit memory_source(std::span<const std::byte> bytes) : bytes_(bytes) {}
    std::uint64_t bytes() const override { return bytes_.size(); }
    result<void> read(std::uint64_t offset, std::span<std::byte> into) override {
        if (!into.empty()) // the caller has checked the range; memcpy wants no null even for nothing
            std::memcpy(into.data(), bytes_.data() + offset, into.size());
        return {};
    }

private:
    std::span<const std::byte> bytes_;
};

class file_source final : public byte_source {
public:
    explicit file_source(read_only_file file) : file_(std::move(file)) {}
    std::uint64_t bytes() const override { return file_.bytes(); }
    result<void> read(std::uint64_t offset, std::span<std::byte> into) override { return file_.read_at(offset, into); }

private:
    read_only_file file_;
};

class trace_reader {
public:
    trace_reader(byte_source& source, std::string_view name) : source_(source), name_(name) {}

    result<route_trace> read() {
        std::array<char, route_format::magic_bytes> magic{};
        if (auto done = take(std::span(magic)); !done)
            return tl::unexpected(done.error());
        const std::string_view found(magic.data(), magic.size());
        second_ = found == route_format::magic_2;
        if (!second_ && found != route_format::magic_1)
            return refuse("is no recording of routing: it does not begin with MOEROUT1 or MOEROUT2");
        end_ = source_.bytes();
        if (second_ && end_ - at_ < sizeof(std::uint64_t))
            return refuse("ends within its header");
        end_ -= second_ ? sizeof(std::uint64_t) : 0;
        auto done = second_ ? read_header_2() : read_header_1();
        if (done)
            done = check_header();
        for (std::uint32_t index = 0; done && index < sequences_; ++index)
            done = read_sequence(index);
        if (done && at_ != end_)
            done = refuse("has " + std::to_string(end_ - at_) + " bytes after its last sequence");
        if (done && second_)
            done = check_hash();
        if (!done)
            return tl::unexpected(done.error());
        return std::move(trace_);
    }

private:
    tl::unexpected<error> refuse(const std::string& why) const {
        return fail(errc::corrupt_file, std::string(name_) + " " + why);
    }

    template <class T, std::size_t extent>
    result<void> take(std::span<T, extent> into) {
        const auto limit = end_ ? end_ : source_.bytes();
        if (into.size_bytes() > limit - at_)
            return refuse("ends at byte " + std::to_string(source_.bytes()) + "; " + std::to_string(into.size_bytes()) +
                          " more bytes should follow byte " + std::to_string(at_));
        const auto bytes = std::as_writable_bytes(into);
        if (auto done = source_.read(at_, bytes); !done)
            return done;
        hash_.update(bytes);
        at_ += bytes.size();
        return {};
    }

    result<void> read_header_1() {
        std::array<std::uint16_t, 4> fields{};
        if (auto done = take(std::span(fields)); !done)
            return done;
        trace_.layers = fields[0];
        trace_.experts = fields[1];
        trace_.top_k = fields[2];
        sequences_ = fields[3];
        if (trace_.experts > route_format::experts_max_1)
            return refuse("claims " + std::to_string(trace_.experts) + " experts, but its ids have one byte");
        return {};
    }

    result<void> read_header_2() {
        std::array<std::uint32_t, route_format::header_fields> fields{};
        if (auto done = take(std::span(fields)); !done)
            return done;
        trace_.layers = fields[0];
        trace_.experts = fields[1];
        trace_.top_k = fields[2];
        trace_.hidden = fields[3];
        sequences_ = fields[4];
        if (fields[5] != 0)
            return refuse("is of a later version than this program reads");
        return {};
    }

    result<void> check_header() {
        if (auto sizes = route_format::check_sizes(trace_); !sizes)
            return refuse("is refused: " + sizes.error());
        trace_.layer_numbers.resize(trace_.layers);
        if (!second_) {
            for (std::uint32_t layer = 0; layer < trace_.layers; ++layer)
                trace_.layer_numbers[layer] = static_cast<std::uint16_t>(layer);
        } else if (auto done = take(std::span(trace_.layer_numbers)); !done) {
            return done;
        }
        if (!route_format::ascending(trace_.layer_numbers))
            return refuse("has layer numbers that do not ascend");
        seen_.assign(trace_.experts, 0);
        return {};
    }

    result<void> read_sequence(std::uint32_t index) {
        route_sequence sequence;
        if (auto done = take(std::span(&sequence.tokens, 1)); !done)
            return done;
        if (second_)
            if (auto done = take(std::span(&sequence.prompt_tokens, 1)); !done)
                return done;
        const auto place = "sequence " + std::to_string(index);
        if (sequence.tokens == 0 || sequence.prompt_tokens > sequence.tokens)
            return refuse(place + " claims " + std::to_string(sequence.prompt_tokens) + " prompt tokens of " +
                          std::to_string(sequence.tokens));
        // At most 2^32 x 2^12 x 2^8 and 2^32 x 2^12 x 2^17 elements: no overflow.
        const auto visits = std::uint64_t{sequence.tokens} * trace_.layers;
        const auto count = visits * trace_.top_k, states = visits * trace_.hidden;
        const auto claimed = count * ((second_ ? 2 : 1) + 2) + states * 2;
        if (claimed > end_ - at_)
            return refuse(place + " claims " + std::to_string(sequence.tokens) + " tokens, " + std::to_string(claimed) +
                          " bytes, but " + std::to_string(end_ - at_) + " follow");
        sequence.ids.resize(count);
        sequence.weights.resize(count);
        sequence.hidden.resize(states);
        auto done = second_ ? take(std::span(sequence.ids)) : read_narrow_ids(sequence.ids);
        if (done)
            done = check_ids(sequence, place);
        if (done)
            done = read_weights(sequence.weights, place);
        if (done)
            done = take(std::span(sequence.hidden));
        if (done)
            trace_.sequences.push_back(std::move(sequence));
        return done;
    }

    result<void> read_narrow_ids(std::span<std::uint16_t> ids) {
        std::vector<std::uint8_t> chunk(std::min(ids.size(), chunk_bytes));
        while (!ids.empty()) {
            const auto part = std::span(chunk).first(std::min(ids.size(), chunk.size()));
            if (auto done = take(part); !done)
                return done;
            std::copy(part.begin(), part.end(), ids.begin());
            ids = ids.subspan(part.size());
        }
        return {};
    }

    result<void> check_ids(const route_sequence& sequence, const std::string& place) {
        const auto bad = route_format::find_bad_ids(trace_, sequence.ids, seen_);
        if (!bad)
            return {};
        return refuse(place + ", token " + std::to_string(*bad / trace_.layers) + ", layer " +
                      std::to_string(*bad % trace_.layers) + ": an expert is there twice or is not one of " +
                      std::to_string(trace_.experts));
    }

    result<void> read_weights(std::span<float> weights, const std::string& place) {
        std::vector<std::uint16_t> chunk(std::min(weights.size(), chunk_bytes / sizeof(std::uint16_t)));
        while (!weights.empty()) {
            const auto part = std::span(chunk).first(std::min(weights.size(), chunk.size()));
            if (auto done = take(part); !done)
                return done;
            std::transform(part.begin(), part.end(), weights.begin(), f16_to_f32);
            if (!std::all_of(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(part.size()),
                             [](float weight) { return std::isfinite(weight); }))
                return refuse(place + " has a gate weight that is no number");
            weights = weights.subspan(part.size());
        }
        return {};
    }

    result<void> check_hash() {
        const auto found = hash_.digest();
        std::uint64_t stored = 0;
        if (auto done = source_.read(end_, std::as_writable_bytes(std::span(&stored, 1))); !done)
            return done;
        if (stored != found)
            return refuse("is damaged: its checksum does not match its bytes");
        return {};
    }

    byte_source& source_;
    std::string_view name_;
    route_format::hash hash_;
    route_trace trace_;
    std::vector<std::uint32_t> seen_;
    std::uint32_t sequences_ = 0;
    std::uint64_t at_ = 0, end_ = 0;
    bool second_ = false;
};

} // namespace

result<route_trace> read_route_trace(const std::filesystem::path& path) {
    auto file = read_only_file::open(path);
    if (!file)
        return tl::unexpected(file.error());
    file_source source(std::move(*file));
    return trace_reader(source, path.string()).read();
}

result<route_trace> parse_route_trace(std::span<const std::byte> bytes, std::string_view name) {
    memory_source source(bytes);
    return trace_reader(source, name).read();
}

} // namespace moira
