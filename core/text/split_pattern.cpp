#include "core/text/split_pattern.hpp"

#include <mutex>
#include <oniguruma.h>

namespace moira {
namespace {

// A run of n letters costs about n stack entries of some 40 bytes: 4 Mi entries are 160 MiB and a run of 4 million
// characters, far beyond any text that people write.
constexpr unsigned int stack_entries_max = 4u << 20;

// Backtracking over a run of n characters retries n times per alternative; sixteen times the longest run that the
// stack allows keeps every published pattern linear and stops an exponential one within about a second.
constexpr unsigned long retries_max = 16ul * stack_entries_max;

// Nesting of groups in a pattern: Oniguruma's parser recurses.
constexpr unsigned int pattern_depth_max = 256;

std::mutex& compile_mutex() {
    static std::mutex mutex;
    return mutex;
}

void initialize_once() {
    static std::once_flag once;
    std::call_once(once, [] {
        OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
        onig_initialize(encodings, 1);
        onig_set_parse_depth_limit(pattern_depth_max);
    });
}

const OnigUChar* bytes_of(std::string_view text) {
    return reinterpret_cast<const OnigUChar*>(text.data());
}

std::size_t next_character(std::string_view text, std::size_t position) {
    ++position;
    while (position < text.size() && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80)
        ++position;
    return position;
}

void find_literal(std::string_view text, std::string_view wanted, std::vector<byte_range>& matches) {
    if (wanted.empty())
        return;
    for (std::size_t at = text.find(wanted); at != std::string_view::npos; at = text.find(wanted, at + wanted.size()))
        matches.push_back({at, at + wanted.size()});
}

} // namespace

struct pattern_scratch::state {
    OnigRegion* region = nullptr;
    OnigMatchParam* parameters = nullptr;
};

pattern_scratch::pattern_scratch() : state_(std::make_unique<state>()) {
    initialize_once();
    state_->region = onig_region_new();
    state_->parameters = onig_new_match_param();
    onig_initialize_match_param(state_->parameters);
    onig_set_match_stack_limit_size_of_match_param(state_->parameters, stack_entries_max);
    onig_set_retry_limit_in_match_of_match_param(state_->parameters, retries_max);
    onig_set_retry_limit_in_search_of_match_param(state_->parameters, retries_max);
}

pattern_scratch::~pattern_scratch() {
    onig_region_free(state_->region, 1);
    onig_free_match_param(state_->parameters);
}

struct split_pattern::compiled {
    OnigRegex expression = nullptr;
    ~compiled() { onig_free(expression); }
};

split_pattern::split_pattern() = default;
split_pattern::split_pattern(split_pattern&&) noexcept = default;
split_pattern& split_pattern::operator=(split_pattern&&) noexcept = default;
split_pattern::~split_pattern() = default;

result<split_pattern> split_pattern::regex(std::string_view pattern) {
    if (pattern.size() > pattern_bytes_max)
        return fail(errc::corrupt_file, "a split pattern of " + std::to_string(pattern.size()) + " bytes; at most " +
                                            std::to_string(pattern_bytes_max));
    initialize_once();
    split_pattern built;
    built.compiled_ = std::make_unique<compiled>();
    OnigErrorInfo details{};
    int status = ONIG_NORMAL;
    {
        // Compiling touches tables that all patterns share.
        const std::lock_guard lock(compile_mutex());
        status = onig_new(&built.compiled_->expression, bytes_of(pattern), bytes_of(pattern) + pattern.size(),
                          ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_ONIGURUMA, &details);
    }
    if (status != ONIG_NORMAL) {
        OnigUChar words[ONIG_MAX_ERROR_MESSAGE_LEN] = {};
        onig_error_code_to_str(words, status, &details);
        built.compiled_->expression = nullptr;
        return fail(errc::unsupported, "the split pattern '" + std::string(pattern.substr(0, 200)) +
                                           "' does not compile: " + reinterpret_cast<const char*>(words));
    }
    return built;
}

split_pattern split_pattern::literal(std::string_view text) {
    split_pattern built;
    built.literal_ = text;
    return built;
}

result<void> split_pattern::find_all(std::string_view text, pattern_scratch& scratch,
                                     std::vector<byte_range>& matches) const {
    matches.clear();
    if (!compiled_) {
        find_literal(text, literal_, matches);
        return {};
    }
    const OnigUChar* begin = bytes_of(text);
    const OnigUChar* end = begin + text.size();
    OnigRegion* region = scratch.state_->region;
    std::size_t position = 0;
    while (position <= text.size()) {
        const int found = onig_search_with_param(compiled_->expression, begin, end, begin + position, end, region,
                                                 ONIG_OPTION_NONE, scratch.state_->parameters);
        if (found == ONIG_MISMATCH)
            break;
        if (found < 0)
            return fail(errc::prompt_too_long, "splitting the text costs too much at byte " + std::to_string(position) +
                                                   " of a run (limit " + std::to_string(stack_entries_max) +
                                                   " steps): shorten it");
        const byte_range match{static_cast<std::size_t>(region->beg[0]), static_cast<std::size_t>(region->end[0])};
        const bool empty = match.begin == match.end;
        // An empty match right behind another match cuts where a cut already is.
        if (!empty || matches.empty() || matches.back().end != match.end)
            matches.push_back(match);
        position = empty ? next_character(text, match.end) : match.end;
    }
    return {};
}

bool is_space_character(std::uint32_t code) noexcept {
    return ONIGENC_IS_CODE_CTYPE(ONIG_ENCODING_UTF8, code, ONIGENC_CTYPE_SPACE);
}

bool is_word_character(std::uint32_t code) noexcept {
    return ONIGENC_IS_CODE_CTYPE(ONIG_ENCODING_UTF8, code, ONIGENC_CTYPE_WORD);
}

} // namespace moira
