'use strict';
/** What a runner will not do: `code` is for the agent, the message for its log. */
class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

module.exports = { Refusal };
