#include "core/text/added_tokens.hpp"

#include <doctest/doctest.h>

namespace {

/// Pieces as text, tokens in brackets with their id.
std::string show(std::vector<moira::added_token> tokens, std::string_view text) {
    moira::added_token_matcher matcher;
    matcher.set_tokens(std::move(tokens));
    std::string shown;
    for (const auto& piece : matcher.split(text)) {
        if (!shown.empty())
            shown += '/';
        if (piece.id >= 0)
            shown.append("[").append(std::to_string(piece.id));
        shown += piece.text;
        if (piece.id >= 0)
            shown += ']';
    }
    return shown;
}

} // namespace

TEST_CASE("added tokens are found leftmost, of equal beginnings the longest") {
    CHECK(show({{1, "<a>"}, {2, "<a><b>"}, {3, "b>x"}}, "1<a><b>x<a>2") == "1/[2<a><b>]/x/[1<a>]/2");
    CHECK(show({{1, "ab"}, {2, "abcd"}, {3, "cx"}}, "abcx") == "[1ab]/[3cx]");
    CHECK(show({{1, "a"}}, "aa") == "[1a]/[1a]");
    CHECK(show({{1, ""}}, "aa") == "aa");
    CHECK(show({}, "").empty());
}

TEST_CASE("tokens of the raw text come before the normalised ones") {
    CHECK(show({{1, "ab", true}, {2, "bc", false}}, "abc") == "a/[2bc]");
    CHECK(show({{1, "ab", true}, {2, "bc", false}}, "ab") == "[1ab]");
}

TEST_CASE("stripping tokens take the white space beside them along") {
    CHECK(show({{1, "<m>", false, true, false}}, "a \u00A0<m> b") == "a/[1 \u00A0<m>]/ b");
    CHECK(show({{1, "<m>", false, false, true}}, "a <m> \nb") == "a /[1<m> \n]/b");
    CHECK(show({{1, "<m>", false, true, true}}, "<m> <m>") == "[1<m> ]/[1<m>]");
}

TEST_CASE("single words match only where no word character touches them") {
    const std::vector<moira::added_token> tokens = {{1, "cat", false, false, false, true}};
    CHECK(show(tokens, "a cat.") == "a /[1cat]/.");
    CHECK(show(tokens, "concat cats écat") == "concat cats écat");
}
