// Loaded on its own, so that the build has more than one module.
export default function Later() {
  return <p id="later">loaded later</p>;
}
