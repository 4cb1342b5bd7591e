// An ordinary configuration: the plugin's page lives under an absolute base, as the console serves it.
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  base: '/api/x/ordinary/ui/',
  plugins: [react()],
});
