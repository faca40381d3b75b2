#!/usr/bin/env node
// A solc executable over the npm build of the compiler (JavaScript, no download at run time).
// Foundry asks an executable for `--version` and otherwise sends standard JSON on standard input.
"use strict";
const { readFileSync } = require("node:fs");
const solc = require("solc");

if (process.argv.includes("--version")) {
  const version = solc.version().replace(/\.Emscripten\..*$/, ".Linux.g++");
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${version}`);
} else {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
}
