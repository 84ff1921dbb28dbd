-- Return why a name or username is invalid; null if it is valid.
create or replace function ledger_internal.invalid_name(
  name text
) returns text
language sql immutable parallel safe
as $$
  -- Spelled out, as classes like [:space:] depend on the locale.
  select case
    when invalid_name.name is null
    then 'must be given'
    -- Most names are of ASCII alone.
    when octet_length(invalid_name.name) <= 255 and invalid_name.name collate "C" ~ '^[ -~]*[!-~][ -~]*$'
    then null
    -- A character in NFC replaces at most four others, so a much longer name need not be normalized.
    when char_length(invalid_name.name) > 4 * 255
    then 'must have at most 255 characters'
    when char_length(normalize(invalid_name.name, NFC)) > 255
    then 'must have at most 255 characters'
    when invalid_name.name collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    -- White space, Unicode's default ignorable characters, and four that render as nothing: the Braille blank, the Khitan
    -- filler, the null notehead, interlinear annotations.
    when invalid_name.name collate "C" !~ (
      '[^ \u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800'
      || '\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a'
      || '\U000e0000-\U000e0fff]'
    )
    then 'must not be blank'
    -- Unicode's default ignorable characters, which include bidirectional controls, and line separators. A variation
    -- selector may follow an emoji, and a joiner may stand between two.
    when invalid_name.name collate "C" ~ (
      '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164'
      || '\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]'
    )
    then 'must not contain invisible characters'
    when invalid_name.name collate "C" ~ '[\u200d\ufe0f]'
      -- The emoji of a key has a digit, a variation selector, and the key.
      and replace(invalid_name.name, U&'\FE0F\20E3', '') collate "C" ~ (
        '(?<![\u00a9\u00ae\u203c\u2049\u2122-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])\ufe0f'
        || '|(?<![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff\ufe0f])\u200d'
        || '|\u200d(?![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff])'
      )
    then 'must not contain invisible characters'
  end
$$;

alter function ledger_internal.invalid_name owner to ledger_owner;
comment on function ledger_internal.invalid_name is
  'Why a name is invalid: it must have 1 to 255 characters in NFC, not be blank, and have no control or invisible characters; null if it is valid.';
revoke execute on function ledger_internal.invalid_name from public;
